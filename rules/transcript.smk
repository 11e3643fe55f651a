rule transcript:
    """Transcribe the speech of one video."""
    input:
        audio=of_video("audio.json"),
        model=ancient(RUNS.transcriber),
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
        videos=one_video("transcript"),
    shell:
        RUN_STEP


use rule transcript as transcript_shard with:
    """Transcribe the speech of a shard of videos, with one loaded model."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("transcript"),
        model=ancient(RUNS.transcriber),
    output:
        marker=marker("transcript"),
    log:
        "logs/transcript/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/transcript/{shard}.{fingerprint}.tsv"
    params:
        videos=one_shard,
