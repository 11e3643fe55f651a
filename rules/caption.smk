rule caption:
    """Caption one video by one captioner."""
    input:
        frames=of_video("frames.json"),
        outdated=outdated("caption/{backend}"),
    output:
        record=of_video("caption/{backend}.json"),
    log:
        "logs/caption/{backend}/{folder}.log",
    conda:
        "../envs/caption.yaml"
    threads: 4
    resources:
        gpu=gpus("caption/{backend}"),
    params:
        settings=settings_file("caption/{backend}"),
        videos=one_video("caption/{backend}"),
    shell:
        RUN_STEP


use rule caption as caption_shard with:
    """Caption a shard of videos by one captioner, loaded once."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("caption/{backend}"),
    output:
        marker=marker("caption/{backend}"),
    log:
        "logs/caption/{backend}/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/caption/{backend}/{shard}.{fingerprint}.tsv"
    params:
        videos=one_shard,
