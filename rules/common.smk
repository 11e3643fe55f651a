"""Shared by the whole graph: the validated configuration, the index, and names of results."""

import sys
from pathlib import Path

from snakemake.cli import get_argument_parser

from spark_trainer import config as settings
from spark_trainer import log as journal
from spark_trainer import console, environment, failures, lock, needs
from spark_trainer import slurm, steps, summary
from spark_trainer.data import index
from spark_trainer.data.files import holds, write_json
from spark_trainer.data.layout import Layout, record_name
from spark_trainer.steps import promises
from spark_trainer.steps.manifest import seal
from spark_trainer.train import encode, order

environment.prefer_this_interpreter()
environment.prefer_huge_pages()
write_json = console.one_line()(write_json)  # a full disk is a line, not a trace

with console.one_line(f"{console.configuration()}: "):
    CONFIG = settings.load(config)
LEFT_BEHIND = []
if workflow.is_main_process:
    with console.one_line():
        OPTIONS, _ = get_argument_parser().parse_known_args(sys.argv[1:])
        LEFT_BEHIND = lock.enter(Layout(Path(CONFIG.output_dir)), OPTIONS)
with console.one_line():
    INDEX = index.open_index(CONFIG, workflow.is_main_process)
    FINGERPRINTS = steps.fingerprints(CONFIG)
    RUNS = order.orders(CONFIG, INDEX, FINGERPRINTS)

LAYOUT = INDEX.layout
# A cluster's job calls Snakemake again, as if locally, and is to find what was asked for it.
LOCAL = workflow.local_exec and workflow.is_main_process
MANIFEST_SEAL = seal(INDEX.digest, FINGERPRINTS["manifest"])
journal.name_file()


wildcard_constraints:
    shard=r"b[01]*\.[0-9a-f]{16}",
    fingerprint=r"[0-9a-f]{16}",
    backend="|".join(CONFIG.caption.names),
    folder=r"[0-9a-f]{2}/[0-9a-f]{64}" if CONFIG.deterministic_layout else r"[^/]+",


def named(step: str, wildcards) -> str:
    """The step that a job runs: of `caption/{backend}` that of the job's backend."""
    return step.format(**dict(wildcards.items()))


def settings_file(step: str):
    """Params function: the settings of a step as its jobs read them, named by the fingerprint.

    Written again where one differs that decides no result, such as `device`.
    """

    def write(wildcards) -> Path:
        name = named(step, wildcards)
        path = LAYOUT.settings(name, FINGERPRINTS[name])
        order = {
            "step": name,
            "fingerprint": FINGERPRINTS[name],
            "output_dir": CONFIG.output_dir,
            "settings": steps.settings(CONFIG, name),
        }
        if not holds(path, order):
            write_json(path, order)
        return path

    return write


def config_file(wildcards) -> Path:
    """Params function: the configuration of this call, whatever files and words it came from."""
    write_json(LAYOUT.state / "config.json", config)
    return LAYOUT.state / "config.json"


def gpus(step: str):
    """Resource function: the GPUs that a step's job asks for."""
    return lambda wildcards: steps.gpus(CONFIG, named(step, wildcards), LOCAL)


def marker(step: str, shard) -> Path:
    """The seal of a step over a shard."""
    return INDEX.marker(step, FINGERPRINTS[step], shard)


def upstream(step: str):
    """Input function: the seals that a step's shard waits for."""
    return lambda wildcards: [
        marker(name, INDEX.shard_of(wildcards.shard))
        for name in steps.upstream(CONFIG, named(step, wildcards))
    ]


def markers(step: str) -> list[Path]:
    """The seals of a step over every shard."""
    return [marker(step, shard) for shard in INDEX.shards]


def part_list(wildcards) -> Path:
    """Params function: the manifest's parts in a file; thousands don't fit on a command line."""
    path = LAYOUT.parts(MANIFEST_SEAL)
    parts = [
        [str(marker("manifest", shard)), str(LAYOUT.shard(shard.name))]
        for shard in INDEX.shards
    ]
    write_json(path, parts)
    return path


def sealed(step: str) -> Path:
    """The marker of a shard, as a rule's output."""
    return LAYOUT.marker(step, "{shard}", "{fingerprint}")


def of_video(name: str) -> Path:
    """A file of one video, as a rule's output."""
    return LAYOUT.root / "{folder}" / name


def video_hash(wildcards) -> str:
    """The hash of the video behind a folder."""
    if wildcards.folder not in INDEX.by_folder:
        raise WorkflowError(f"no video has the folder {LAYOUT.root / wildcards.folder}")
    return INDEX.by_folder[wildcards.folder].hash


def source(wildcards) -> Path:
    """Input function: the link to the video behind a folder."""
    return LAYOUT.source(video_hash(wildcards))


def outdated(step: str):
    """Input function: a fresh file where a record failed, or is of other settings or content."""

    def check(wildcards) -> list[Path]:
        name = named(step, wildcards)
        record = LAYOUT.root / wildcards.folder / record_name(name)
        made_of = video_hash(wildcards), FINGERPRINTS[name]
        if not record.exists() or promises.fresh(record, *made_of):
            return []
        write_json(LAYOUT.state / "outdated.json", name)
        return [LAYOUT.state / "outdated.json"]

    return check
