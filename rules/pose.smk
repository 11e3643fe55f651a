rule pose:
    """The person in one video: skeleton, face, mask, background."""
    input:
        source=ancient(source),
        outdated=outdated("pose"),
    output:
        record=of_video("pose.json"),
    log:
        "logs/pose/{folder}.log",
    conda:
        "../envs/pose.yaml"
    threads: 8
    resources:
        gpu=gpus("pose"),
    params:
        settings=settings_file("pose"),
        video=video_hash,
    shell:
        "python -m spark_trainer step --settings {params.settings:q}"
        " --folder {wildcards.folder:q} --video {params.video}"
        " --threads {threads} --gpus {resources.gpu} --log {log:q}"


rule pose_file:
    """The prepared videos of one video, made again where they were deleted."""
    input:
        record=ancient(of_video("pose.json")),
    output:
        directory(of_video("pose")),
    log:
        "logs/pose/{folder}.file.log",
    conda:
        "../envs/pose.yaml"
    resources:
        gpu=gpus("pose"),
    params:
        settings=settings_file("pose"),
        video=video_hash,
    shell:
        "python -m spark_trainer step --settings {params.settings:q}"
        " --folder {wildcards.folder:q} --video {params.video}"
        " --threads {threads} --gpus {resources.gpu} --log {log:q}"


rule pose_shard:
    """The person in each video of a shard."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("pose"),
    output:
        marker=sealed("pose"),
    log:
        "logs/pose/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/pose/{shard}.{fingerprint}.tsv"
    conda:
        "../envs/pose.yaml"
    threads: 8
    resources:
        gpu=gpus("pose"),
    params:
        settings=settings_file("pose"),
    shell:
        "python -m spark_trainer step --settings {params.settings:q}"
        " --shard {input.members:q} --marker {output.marker:q}"
        " --threads {threads} --gpus {resources.gpu} --log {log:q}"
