rule pose:
    """Prepare the person in one video: skeleton, face, mask, background."""
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
        videos=one_video("pose"),
    shell:
        RUN_STEP


use rule pose as pose_file with:
    """Make the prepared videos of one video again where they were deleted."""
    input:
        record=ancient(of_video("pose.json")),
    output:
        directory(of_video("pose")),
    log:
        "logs/pose/{folder}.file.log",


use rule pose as pose_shard with:
    """Prepare the person in each video of a shard."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("pose"),
    output:
        marker=marker("pose"),
    log:
        "logs/pose/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/pose/{shard}.{fingerprint}.tsv"
    params:
        videos=one_shard,
