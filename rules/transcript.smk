rule transcript:
    """The speech of one video as text."""
    input:
        audio=of_video("audio.json"),
        outdated=outdated("transcript"),
    output:
        record=of_video("transcript.json"),
    log:
        "logs/transcript/{folder}.log",
    conda:
        "../envs/asr.yaml"
    threads: 4
    resources:
        gpu=gpus("transcript"),
    params:
        settings=settings_file("transcript"),
        video=video_hash,
    shell:
        ON_VIDEO


rule transcript_shard:
    """The speech of a shard of videos, with one loaded model."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("transcript"),
    output:
        marker=marker("transcript"),
    log:
        "logs/transcript/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/transcript/{shard}.{fingerprint}.tsv"
    conda:
        "../envs/asr.yaml"
    threads: 4
    resources:
        gpu=gpus("transcript"),
    params:
        settings=settings_file("transcript"),
    shell:
        ON_SHARD
