"""What users type: targets that only collect."""


report: "report/workflow.rst"


localrules:
    export,
    manifest,
    plan,
    report,
    report_page,
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


rule export:
    """Collect the manifest, then every data set for another tool that the configuration names."""
    input:
        rules.manifest.input,
        EXPORTS.markers,


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


rule report_page:
    """Make the page; its marker is named like that of the manifest that it is about."""
    input:
        rules.manifest.input,
        runs=made_before_the_page,
        outdated=plainly(lambda wildcards: RUNS.outdated_report()),
    output:
        page=report(LAYOUT.report, caption="report/page.rst", category="Data"),
        marker=GRAPH.report_marker,
    log:
        "logs/report.log",
    conda:
        "../envs/media.yaml"
    threads: 4
    params:
        config=config_file,
    shell:
        "python -m spark_trainer report --config {params.config:q} --page {output.page:q}"
        " --marker {output.marker:q} --threads {threads} --log {log:q}"


rule report:
    """Collect the page about the data, every run that is there, and what changed."""
    input:
        rules.report_page.output,
