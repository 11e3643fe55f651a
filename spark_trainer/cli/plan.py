"""The command `plan`: what a build would do and why, from Snakemake's own dry run."""

import argparse
import contextlib
import io
import logging
import os
import runpy
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer import config
from spark_trainer.cli import snakemake
from spark_trainer.errors import UserError
from spark_trainer.system import environment, gpu, log

if TYPE_CHECKING:
    from spark_trainer.store.plan import Job

LOCKS = Path(".snakemake/locks")
JOB = "job_info"  # the event by which Snakemake tells of a job that it plans


def plan(options: argparse.Namespace) -> int:
    """Tell what a build would do and why, and what it would take; nothing is run."""
    import psutil  # type: ignore[import-untyped]

    from spark_trainer.data import index, lock
    from spark_trainer.graph import trained
    from spark_trainer.graph.videos import VideoGraph
    from spark_trainer.runs import folder
    from spark_trainer.store import plan_text
    from spark_trainer.store.plan import Machine, Plan, still_there

    if options.log:
        log.start("plan", options.log)
    LOCKS.mkdir(parents=True, exist_ok=True)  # as Snakemake does, whose error is a trace
    settings = trained.located(config.read(options.config))
    words = [
        *options.targets,
        "--configfile",
        str(options.config),
        "--dry-run",
        *snakemake.beside(),
    ]
    with _own_environment():
        jobs = _planned(words)
        planning_s = time.time() - psutil.Process().create_time()  # a build begins as this does
        graph = VideoGraph(settings, index.load(settings, os.environ[index.SNAPSHOT_VARIABLE]))
        forced = still_there(graph)
        if forced and not any("/" in target for target in options.targets):
            jobs = _planned([*words, "--forcerun", *map(str, forced)])
    places = sorted({Path(run.output_dir) for run in settings.runs.values()})
    folders = [run for place in places for run in folder.below(place)]
    machine = Machine(environment.cpus(), len(gpu.visible()))
    building = lock.another(graph.layout.lock)
    made = Plan(graph, jobs, folders, machine, planning_s, building)
    print(plan_text.json(made) if options.json else plan_text.text(made))
    return 0


def plan_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `plan`."""
    named = "what would be built, as for Snakemake (default: the manifest and every run)"
    parser.add_argument("targets", nargs="*", metavar="target", help=named)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    """Take back the variables by which Snakemake's process tells its jobs what it found."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _planned(words: Sequence[str]) -> "list[Job]":
    """Let Snakemake plan in this process, and collect the jobs that it tells of.

    Raises:
        UserError: it can't; what it said is printed.
    """
    jobs: list[Job] = []

    def collect(record: logging.LogRecord) -> bool:
        if str(getattr(record, "event", "")) != JOB:
            return True
        jobs.append(_job(vars(record)))
        return False

    logger, printed, given = (
        logging.getLogger(f"{snakemake.PROGRAM}.logging"),
        io.StringIO(),
        sys.argv,
    )
    status: Any = 0
    try:
        sys.argv = [snakemake.PROGRAM, *words]
        logger.addFilter(collect)
        with contextlib.redirect_stdout(printed):
            runpy.run_module(snakemake.PROGRAM, run_name="__main__")
    except SystemExit as ended:
        status = ended.code
    finally:
        sys.argv = given
        logger.removeFilter(collect)
    if isinstance(status, str):  # a line of ours
        raise UserError(status.removeprefix("spark_trainer: "))
    if status:
        print(printed.getvalue(), file=sys.stderr)
        raise UserError("Snakemake can't plan this; what it says stands above")
    return jobs


def _job(said: dict[str, Any]) -> "Job":
    from spark_trainer.store.plan import Job

    asked = said["resources"].get("gpu", 0)
    return Job(
        rule=said["rule_name"],
        wildcards=dict(said["wildcards"]),
        inputs=tuple(map(str, said["input"])),
        outputs=tuple(map(str, said["output"])),
        threads=int(said["threads"]),
        gpus=asked if isinstance(asked, int) else 0,
    )
