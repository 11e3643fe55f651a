rule encode_shard:
    """Encode a shard's clips and texts with a model's frozen encoders, each once."""
    input:
        data=of_encode(RUNS.to_encode),
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
        gpu=of_encode(lambda run, shard: RUNS.encode_gpus(run)),
    params:
        spec=of_encode(lambda run, shard: RUNS.spec_file(run)),
    shell:
        "python -m spark_trainer encode --spec {params.spec:q} --data {input.data:q}"
        " --marker {output.marker:q} --threads {threads} --gpus {resources.gpu} --log {log:q}"
