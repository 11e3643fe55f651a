rule audio:
    """Extract the sound track of one video."""
    input:
        source=ancient(source),
        outdated=outdated("audio"),
    output:
        record=of_video("audio.json"),
    log:
        "logs/audio/{folder}.log",
    conda:
        "../envs/media.yaml"
    threads: 8
    resources:
        gpu=gpus("audio"),
    params:
        settings=settings_file("audio"),
        videos=one_video("audio"),
    shell:
        RUN_STEP


use rule audio as audio_file with:
    """Make the WAV file of one video again where it was deleted."""
    input:
        record=ancient(of_video("audio.json")),
    output:
        of_video("audio.wav"),
    log:
        "logs/audio/{folder}.file.log",


use rule audio as audio_shard with:
    """Extract the sound tracks of a shard of videos, one FFmpeg process per core."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("audio"),
    output:
        marker=marker("audio"),
    log:
        "logs/audio/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/audio/{shard}.{fingerprint}.tsv"
    params:
        videos=one_shard,
