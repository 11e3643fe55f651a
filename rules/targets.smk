"""What users type: targets that only collect."""


localrules:
    gallery_page,
    gallery,
    manifest,
    plan,
    train,
    validate,


rule manifest:
    """Collect frames, audio, transcripts, captions of every video, and the manifest over them."""
    input:
        LAYOUT.manifest,
        LAYOUT.rejected,
        LAYOUT.manifest.with_suffix(".features.json"),
        GRAPH.manifest_marker,


rule train:
    """Collect the manifest, then every run named in the configuration."""
    input:
        rules.manifest.input,
        [*RUNS.summaries.values()],


rule plan:
    """Tell what a build of everything would do, and why."""
    log:
        "logs/plan.log",
    conda:
        "../envs/media.yaml"
    params:
        config=config_file,
    shell:
        "python -m spark_trainer plan --config {params.config:q} --log {log:q} >&2"


rule validate:
    """Check what a build needs, and the manifest's schema and files."""
    input:
        LAYOUT.manifest,
    log:
        "logs/validate.log",
    conda:
        "../envs/media.yaml"
    params:
        config=config_file,
    shell:
        "python -m spark_trainer validate --config {params.config:q} --manifest {input:q}"
        " --log {log:q} >&2"


rule gallery_page:
    """Make the page; its marker is named like that of the manifest that it shows."""
    input:
        rules.manifest.input,
    output:
        page=LAYOUT.root / "gallery.html",
        marker=GRAPH.gallery_marker,
    log:
        "logs/gallery.log",
    conda:
        "../envs/media.yaml"
    params:
        manifest=LAYOUT.manifest,
    shell:
        "python -m spark_trainer gallery --manifest {params.manifest:q} --page {output.page:q}"
        " --marker {output.marker:q} --log {log:q}"


rule gallery:
    """Collect the page that shows frames, captions and transcripts, and what was rejected."""
    input:
        rules.gallery_page.output,
