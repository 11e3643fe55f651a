"""SparkTrainer: from a folder of raw video to a trained video-aware model.

snakemake --cores 32 manifest          frames, audio, transcripts, captions, manifest
snakemake train --resources gpu=8      the above, then every run of the configuration
snakemake --profile slurm              the same graph as cluster jobs
snakemake --dag | dot -Tsvg            the graph
"""

from snakemake.utils import min_version

min_version("9.27")


# A configuration given on the command line replaces the demo's, it is not laid over it.
if not workflow.config_settings.configfiles:

    configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/runs.smk"
include: "rules/screen.smk"
include: "rules/frames.smk"
include: "rules/audio.smk"
include: "rules/transcript.smk"
include: "rules/caption.smk"
include: "rules/select.smk"
include: "rules/pose.smk"
include: "rules/manifest.smk"
include: "rules/encode.smk"
include: "rules/train.smk"
include: "rules/export.smk"
include: "rules/targets.smk"


rule all:
    """The default target: the manifest, every training run, and the page about all of it."""
    default_target: True
    input:
        rules.train.input,
        rules.report.input,


onstart:
    attend()
    journal.start(f"snakemake: {INDEX}")
    journal.facts(INDEX.search.notes())
    with console.one_line():
        needs.before(CONFIG, needs.planned(CONFIG, workflow))
        if not workflow.local_exec:
            slurm.wait(Path.cwd(), *LEFT_BEHIND)


onsuccess:
    show_success()


onerror:
    show_failure()
