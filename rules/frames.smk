rule frames:
    """Extract still frames of one video."""
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
        videos=one_video("frames"),
    shell:
        RUN_STEP


use rule frames as frames_file with:
    """Make the frame folder of one video again where it was deleted."""
    input:
        record=ancient(of_video("frames.json")),
    output:
        directory(of_video("frames")),
    log:
        "logs/frames/{folder}.file.log",


use rule frames as frames_shard with:
    """Extract still frames of a shard of videos, one FFmpeg process per core."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("frames"),
    output:
        marker=marker("frames"),
    log:
        "logs/frames/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/frames/{shard}.{fingerprint}.tsv"
    params:
        videos=one_shard,
