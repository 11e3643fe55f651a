"""What the rules of training runs ask: their data, their orders, their results."""


def training_data(wildcards) -> list[Path]:
    """Input function: a run's own manifest, else the parts of the one that is built here."""
    given = CONFIG.runs[wildcards.run].manifest_path
    return [Path(given)] if given else markers("manifest")


def data_file(wildcards) -> Path:
    """Params function: the run's manifest, or the list of the parts."""
    given = CONFIG.runs[wildcards.run].manifest_path
    return Path(given) if given else part_list(wildcards)


def trained(run: str) -> Path:
    """The summary of a finished run, in a folder named by everything that decides its weights."""
    return RUNS[run].folder / "trained.json"


def summaries() -> dict[str, Path]:
    """Each run's name and where its summary is, or will be."""
    return {run: trained(run) for run in CONFIG.runs}


def run_order(wildcards) -> Path:
    """The order file that a run's job reads."""
    return order.write(LAYOUT.state, RUNS[wildcards.run])


def encoded(wildcards) -> list[Path]:
    """Input function: the seals over what a run's frozen encoders made of its data."""
    made = RUNS[wildcards.run]
    if not made.settings.encoded_ahead:
        return []
    shards = [made.given] if made.given else [shard.name for shard in INDEX.shards]
    return [made.encode_marker(shard) for shard in shards]


def encoding(wildcards):
    """A run that takes what is kept under a seal."""
    seal = LAYOUT.encode_marker(**dict(wildcards.items()))
    for made in RUNS.values():
        if made.settings.encoded_ahead and made.encode_marker(wildcards.shard) == seal:
            return made
    raise WorkflowError(f"no run has the encoders and the settings of {seal}")


def to_encode(wildcards) -> Path:
    """Input function: the manifest's part for a shard, or a run's own manifest."""
    given = encoding(wildcards).settings.manifest_path
    return Path(given) if given else marker("manifest", INDEX.shard_of(wildcards.shard))


def encode_order(wildcards) -> Path:
    """Params function: the order file of a run that takes what is kept under a seal."""
    return order.write(LAYOUT.state, encoding(wildcards))


def asked(value, several=False):
    """Resource function: what a run asks for; `several`: only where it trains on several nodes."""

    def ask(wildcards):
        run = CONFIG.runs[wildcards.run]
        return value(run) if run.nodes > 1 or not several else None

    return ask
