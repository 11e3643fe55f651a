rule select:
    """Select the caption of one video that goes to the manifest."""
    input:
        captions=[of_video(f"caption/{name}.json") for name in CONFIG.caption.names],
        outdated=outdated("select"),
    output:
        record=of_video("caption.json"),
    log:
        "logs/select/{folder}.log",
    conda:
        "../envs/caption.yaml"
    resources:
        gpu=gpus("select"),
    params:
        settings=settings_file("select"),
        videos=one_video("select"),
    shell:
        RUN_STEP


use rule select as select_shard with:
    """Select of every video's captions the one that goes to the manifest."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("select"),
    output:
        marker=marker("select"),
    log:
        "logs/select/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/select/{shard}.{fingerprint}.tsv"
    params:
        videos=one_shard,
