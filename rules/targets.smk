"""What users type: targets that only collect."""


localrules:
    manifest,
    train,
    validate,


rule manifest:
    """Frames, audio, transcripts, captions of every video, and the manifest over them."""
    input:
        LAYOUT.manifest,
        LAYOUT.rejected,
        LAYOUT.sealed("join") / f"{MANIFEST_SEAL}.json",


rule train:
    """The manifest, then every run named in the configuration."""
    input:
        rules.manifest.input,
        [trained(run) for run in CONFIG.runs],


rule validate:
    """Check FFmpeg, the GPUs, and the manifest's schema and files."""
    input:
        LAYOUT.manifest,
    log:
        "logs/validate.log",
    conda:
        "../envs/media.yaml"
    shell:
        "python -m spark_trainer validate --manifest {input:q} 2>&1 | tee {log:q} >&2"
