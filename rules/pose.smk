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
        ON_VIDEO


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
        ON_VIDEO


rule pose_shard:
    """The person in each video of a shard."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("pose"),
    output:
        marker=marker("pose"),
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
        ON_SHARD
