"""Shared by the whole graph: the validated configuration, what the rules ask, and the commands."""

import sys
from pathlib import Path

from snakemake.cli import get_argument_parser

from spark_trainer import config as settings
from spark_trainer.report import console, failures, summary
from spark_trainer.report.screen import current as screen
from spark_trainer.system import environment, log as journal, slurm
from spark_trainer.preflight import needs
from spark_trainer.data import files, index, lock
from spark_trainer.data.layout import Layout
from spark_trainer.graph import trained
from spark_trainer.graph.runs import RunGraph
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.runs.folder import RunFolder

environment.prefer_this_interpreter()
environment.tune_jobs()
environment.keep_bytecode()
environment.collect_seldom()

with console.one_line():
    settings.check_steps()
with console.one_line(f"{console.configuration()}: "):
    CONFIG = trained.located(settings.load(config))
LEFT_BEHIND = []
if workflow.is_main_process:
    with console.one_line():
        OPTIONS, _ = get_argument_parser().parse_known_args(sys.argv[1:])
        LEFT_BEHIND = lock.enter(Layout(Path(CONFIG.output_dir)), OPTIONS)
with console.one_line():
    INDEX = index.open_index(CONFIG, workflow.is_main_process)
    GRAPH = VideoGraph(
        CONFIG, INDEX, lambda: workflow.local_exec and workflow.is_main_process
    )
    RUNS = RunGraph(GRAPH)
    RUNS.specs  # a run that can't be is said before the graph is built

LAYOUT = GRAPH.layout
journal.name_file()
plainly = console.one_line()  # trouble in what a rule asks is a line, not a trace
RUN_STEP = (
    "python -m spark_trainer step --settings {params.settings:q} {params.videos:q}"
    " --threads {threads} --gpus {resources.gpu} --log {log:q}"
)


wildcard_constraints:
    shard=r"b[01]*\.[0-9a-f]{16}",
    fingerprint=r"[0-9a-f]{16}",
    backend="|".join(CONFIG.caption.names),
    folder=r"[0-9a-f]{2}/[0-9a-f]{64}" if CONFIG.deterministic_layout else r"[^/]+",


def named(step: str, wildcards) -> str:
    """Name the step that a job runs: of `caption/{backend}` that of the job's backend."""
    return step.format(**dict(wildcards.items()))


def settings_file(step: str):
    """Make the params function that writes a step's settings as its jobs read them."""
    return plainly(lambda wildcards: GRAPH.settings(named(step, wildcards)))


def gpus(step: str):
    """Make the resource function that counts the GPUs of a step's job."""
    return lambda wildcards: GRAPH.gpus(named(step, wildcards))


def upstream(step: str):
    """Make the input function that names the markers that a step's shard waits for."""
    return plainly(
        lambda wildcards: GRAPH.upstream(named(step, wildcards), wildcards.shard)
    )


def marker(step: str) -> Path:
    """Name the marker of a step over a shard, as a rule's output."""
    return LAYOUT.marker(step, "{shard}", "{fingerprint}")


def of_video(name: str) -> Path:
    """Name a file of one video, as a rule's output."""
    return LAYOUT.root / "{folder}" / name


def one_video(step: str):
    """Make the params function that returns the flags which name a step's one video."""
    return plainly(
        lambda wildcards: GRAPH.one_video(named(step, wildcards), wildcards.folder)
    )


def one_shard(wildcards, input, output) -> list[str]:
    """Return the flags that name the videos of a shard, and its marker; a params function."""
    return ["--shard", str(input.members), "--marker", str(output.marker)]


@plainly
def source(wildcards) -> Path:
    """Name the link to the video behind a folder; an input function."""
    return LAYOUT.source(GRAPH.video(wildcards.folder).hash)


def outdated(step: str):
    """Make the input function that writes a fresh file where a record has to be made again."""
    return plainly(
        lambda wildcards: GRAPH.outdated(named(step, wildcards), wildcards.folder)
    )


@plainly
def part_list(wildcards) -> Path:
    """Write the list of the manifest's parts; a params function."""
    return GRAPH.part_list()


@plainly
def config_file(wildcards) -> Path:
    """Write the configuration of this call, wherever it came from; a params function."""
    files.write_json(LAYOUT.state / "config.json", config)
    return LAYOUT.state / "config.json"
