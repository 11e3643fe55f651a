"""What the rules of training runs ask: their data, their specs, what they are granted."""


def of_run(ask):
    """Input or params function: what the graph says of the job's run."""
    return plainly(lambda wildcards: ask(wildcards.run))


def of_encode(ask):
    """Input, params or resource function: what the graph says of a run that takes what is kept."""

    def answer(wildcards):
        encoders, shard = wildcards.encoders, wildcards.shard
        return ask(RUNS.reader(encoders, shard, wildcards.fingerprint), shard)

    return plainly(answer)


def asked(value, several=False):
    """Resource function: what a run asks for; `several`: only where it trains on several nodes."""

    def ask(wildcards):
        run = CONFIG.runs[wildcards.run]
        return value(run) if run.nodes > 1 or not several else None

    return ask
