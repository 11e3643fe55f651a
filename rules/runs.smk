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


def show_idle():
    """Say that nothing is due."""
    summary.show_idle(CONFIG, RUNS.summaries)
    let_report_speak()


def attend():
    """Hear of SIGTERM and Ctrl-C before Snakemake does; show jobs of a cluster as such."""
    environment.pass_signals_on()
    console.hear_sigterm()
    if not workflow.local_exec:
        screen.submits()


def show_failure():
    """Say why the build failed; one that was stopped says so itself."""
    if console.stopped():
        screen.end()
    else:
        summary.show_failure(job.log[0] for job in workflow.scheduler.failed)


def let_report_speak():
    """Let Snakemake say what follows, where it is asked for a report after the build."""
    if workflow.is_main_process and OPTIONS.report_after_run:
        screen.say_all()


if workflow.is_main_process:
    screen.when_idle(show_idle)
    if not lock.builds(OPTIONS):
        screen.say_all()
