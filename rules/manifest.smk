rule manifest_part:
    """Write the manifest's lines for a shard of videos."""
    input:
        members=LAYOUT.shard("{shard}"),
        upstream=upstream("manifest"),
    output:
        marker=marker("manifest"),
    log:
        "logs/manifest/{shard}.{fingerprint}.log",
    benchmark:
        "benchmarks/jobs/manifest/{shard}.{fingerprint}.tsv"
    conda:
        "../envs/media.yaml"
    params:
        settings=settings_file("manifest"),
    shell:
        "python -m spark_trainer part --settings {params.settings:q}"
        " --shard {input.members:q} --marker {output.marker:q} --log {log:q}"


rule manifest_join:
    """Join the manifest of every shard's lines, sorted by hash, and list the rejected videos."""
    input:
        parts=GRAPH.markers("manifest"),
    output:
        manifest=LAYOUT.manifest,
        rejected=report(LAYOUT.rejected, caption="report/rejected.rst", category="Data"),
        features=LAYOUT.manifest.with_suffix(".features.json"),
        marker=GRAPH.manifest_marker,
    log:
        "logs/manifest/join.log",
    priority: 1  # before runs, which read its parts and take long
    conda:
        "../envs/media.yaml"
    params:
        settings=settings_file("manifest"),
        index=LAYOUT.index(INDEX.digest),
        snapshot=INDEX.snapshot,
        parts=part_list,
    shell:
        "python -m spark_trainer join --settings {params.settings:q} --index {params.index:q}"
        " --snapshot {params.snapshot:q}"
        " --manifest {output.manifest:q} --rejected {output.rejected:q}"
        " --marker {output.marker:q} --log {log:q} --parts {params.parts:q}"
