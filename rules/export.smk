"""What goes out: data sets for other tools, of the manifest that is built here."""

import re

from spark_trainer.graph.exports import ExportGraph

with console.one_line():
    EXPORTS = ExportGraph(GRAPH)
    EXPORTS.settings  # an export that can't be is said before the graph is built


rule export_one:
    """Make one data set for another tool; its marker is named after all that it is made of."""
    input:
        manifest=LAYOUT.manifest,
        marker=GRAPH.manifest_marker,
        outdated=plainly(lambda wildcards: EXPORTS.outdated(wildcards.export)),
    output:
        marker=LAYOUT.marker_folder("export/{export}") / "{fingerprint}.json",
    log:
        "logs/export/{export}.{fingerprint}.log",
    wildcard_constraints:
        export="|".join(map(re.escape, CONFIG.exports)) or "none",
    conda:
        "../envs/media.yaml"
    params:
        config=config_file,
    shell:
        "python -m spark_trainer export {wildcards.export:q} --config {params.config:q}"
        " --marker {output.marker:q} --log {log:q}"
