"""Latents and embeddings, for the runs that learn to make videos."""


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


rule encode_shard:
    """What diffusion's frozen encoders make of a shard's clips and texts, each once."""
    input:
        data=to_encode,
    output:
        marker=LAYOUT.encode_marker("{encoders}", "{shard}", "{fingerprint}"),
    log:
        "logs/encode/{encoders}/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/encode/{encoders}/{shard}.{fingerprint}.tsv"
    wildcard_constraints:
        encoders=r"[0-9a-f]{16}",
        shard=r"(b[01]*\.)?[0-9a-f]{16}",
    conda:
        "../envs/train.yaml"
    threads: 4
    resources:
        gpu=lambda wildcards: encode.gpus(encoding(wildcards), workflow.local_exec),
    params:
        order=encode_order,
    shell:
        "python -m spark_trainer encode --order {params.order:q} --data {input.data:q}"
        " --marker {output.marker:q} --threads {threads} --gpus {resources.gpu} --log {log:q}"
