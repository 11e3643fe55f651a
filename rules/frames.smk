rule frames:
    """Still frames of one video."""
    input:
        source=ancient(source),
        outdated=outdated("frames"),
    output:
        record=of_video("frames.json"),
    log:
        "logs/frames/{folder}.log",
    conda:
        "../envs/media.yaml"
    threads: 8
    resources:
        gpu=gpus("frames"),
    params:
        settings=settings_file("frames"),
        video=video_hash,
    shell:
        ON_VIDEO


rule frames_file:
    """The frame folder of one video, made again where it was deleted."""
    input:
        record=ancient(of_video("frames.json")),
    output:
        directory(of_video("frames")),
    log:
        "logs/frames/{folder}.file.log",
    conda:
        "../envs/media.yaml"
    resources:
        gpu=gpus("frames"),
    params:
        settings=settings_file("frames"),
        video=video_hash,
    shell:
        ON_VIDEO


rule frames_shard:
    """Still frames of a shard of videos, one FFmpeg process per core."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("frames"),
    output:
        marker=marker("frames"),
    log:
        "logs/frames/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/frames/{shard}.{fingerprint}.tsv"
    conda:
        "../envs/media.yaml"
    threads: 8
    resources:
        gpu=gpus("frames"),
    params:
        settings=settings_file("frames"),
    shell:
        ON_SHARD
