"""What the rules of training runs ask: their data, their specs, what they are granted."""


def of_run(ask):
    """Make the input or params function that asks the graph about the job's run."""
    return plainly(lambda wildcards: ask(wildcards.run))


def of_encode(ask):
    """Make the function that asks the graph about a run that takes what is encoded."""

    def answer(wildcards):
        encoders, shard = wildcards.encoders, wildcards.shard
        return ask(RUNS.reader(encoders, shard, wildcards.fingerprint), shard)

    return plainly(answer)


def asked(value, several=False):
    """Make the resource function of a run; `several`: only where it trains on several nodes."""

    def ask(wildcards):
        run = CONFIG.runs[wildcards.run]
        return value(run) if run.nodes > 1 or not several else None

    return ask


@plainly
def made_before_the_page(wildcards) -> list[Path]:
    """Name the summaries of the runs that this call makes, too; an input function.

    A page alone waits for no run, and trains none.
    """
    targets = workflow.dag_settings.targets or [workflow.default_target]
    wanted = set()
    for target in targets:
        known = workflow.is_rule(target)
        wanted.update(map(str, workflow.get_rule(target).input if known else [target]))
    return [path for path in RUNS.summaries.values() if str(path) in wanted]
