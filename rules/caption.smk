rule caption:
    """The caption of one video."""
    input:
        frames=of_video("frames.json"),
        outdated=outdated("caption"),
    output:
        record=of_video("caption.json"),
    log:
        "logs/caption/{folder}.log",
    conda:
        "../envs/caption.yaml"
    threads: 4
    params:
        settings=settings_file("caption"),
        video=video_hash,
    shell:
        "python -m spark_trainer step --settings {params.settings:q}"
        " --folder {wildcards.folder:q} --video {params.video}"
        " --threads {threads} --log {log:q}"


rule caption_shard:
    """The captions of a shard of videos, with one loaded model."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("caption"),
    output:
        marker=sealed("caption"),
    log:
        "logs/caption/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/caption/{shard}.{fingerprint}.tsv"
    conda:
        "../envs/caption.yaml"
    threads: 4
    params:
        settings=settings_file("caption"),
    shell:
        "python -m spark_trainer step --settings {params.settings:q}"
        " --shard {input.members:q} --marker {output.marker:q}"
        " --threads {threads} --log {log:q}"
