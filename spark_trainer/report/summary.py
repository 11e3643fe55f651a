"""The summary at the end of a build: what went in, what came out, where it is, and what is next."""

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from spark_trainer.config import Config
from spark_trainer.data import manifest
from spark_trainer.data.layout import Layout
from spark_trainer.data.search import SHOWN, Trouble
from spark_trainer.report import console, failures, learnt, table
from spark_trainer.report.screen import current as screen
from spark_trainer.report.table import Line, row
from spark_trainer.system import log

DEMO = Path("config/demo")


def show(config: Config, runs: dict[str, Path], troubles: Sequence[Trouble] = ()) -> None:
    """Print the summary of what is built so far to stderr, and add it to the log."""
    told = lines(config, runs, troubles)
    log.keep(line.logged for line in told)  # first: the terminal may be closed
    screen.end()
    print("\n".join(line.text for line in told), file=sys.stderr)


def show_idle(config: Config, runs: dict[str, Path]) -> None:
    """Print that nothing is to be done, and where all of it lies."""
    layout = Layout(Path(config.output_dir))
    rows = [
        *learnt.rows(learnt.finished(runs)),
        row("manifest", str(layout.manifest)),
        row("report", _page(layout, runs.values())),
    ]
    told = [line.text for line in table.lines(rows)]
    screen.say("\n".join(["Nothing to be done: all of it is there and up to date", *told]))


def show_failure(logs: Iterable[str]) -> None:
    """Say at the very end why a build failed and which log to read, and add that to the log.

    Args:
        logs: the logs of the jobs that failed.
    """
    screen.end()
    path = log.name_file()
    jobs = failures.left(path.parent, logs)
    if console.interrupted():
        return
    where = os.path.relpath(path)
    line = f"failed; see {where}"
    if jobs:
        message = " ".join(jobs[0].message.split())
        others = f"; {len(jobs) - 1} more failed" if jobs[1:] else ""
        line = f"failed: {jobs[0].name}: {message}{others}; see {where}"
    with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
    console.say_last(line)


def lines(config: Config, runs: dict[str, Path], troubles: Sequence[Trouble] = ()) -> list[Line]:
    """Return the lines of the summary; none without a manifest.

    Args:
        config: the validated configuration.
        runs: each run's name and the path of its summary.
        troubles: files and folders that the index left out this time.
    """
    layout = Layout(Path(config.output_dir))
    if not layout.manifest.exists():
        return []
    trained = learnt.finished(runs)
    pairs = learnt.samples(trained)
    names = {after["video"]: "" for found in pairs.values() for _, after in found}
    files = minutes = words = frames = damaged = 0.0
    videos = 0
    for entry in manifest.read(layout.manifest):
        meta = entry["meta"]
        videos += 1
        files += len(meta["sources"])
        minutes += (meta["audio_duration"] or 0.0) / 60
        words += len((meta["transcript"] or "").split())
        frames += len(meta["frame_times"] or ())
        damaged += meta["damaged"] is not None
        if entry["id"] in names:
            names[entry["id"]] = log.plain(meta["source_path"])
    rejected = _rejected(layout.rejected)
    rows = [
        row("videos", f"{videos} contents in {files:.0f} files, {frames:.0f} frames"),
        row("rejected", f"{len(rejected)}", *rejected),
        *([row("left out", *_left_out(troubles))] if troubles else ()),
        *([row("damaged", f"{damaged:.0f} used in part")] if damaged else ()),
        row("audio", f"{minutes:.1f} minutes, {words:.0f} words"),
        *learnt.rows(trained),
        row("manifest", str(layout.manifest)),
        row("log", os.path.relpath(os.environ.get(log.LOG_VARIABLE, "runs"))),
        row("report", _page(layout, runs.values())),
    ]
    sides = learnt.shown(trained, pairs, {video: name for video, name in names.items() if name})
    return [Line(""), *table.lines(rows), *sides, Line(""), *map(Line, _next(config, layout))]


def _page(layout: Layout, summaries: Iterable[Path]) -> str:
    """Say where the page about all of it is, or what makes it."""
    if not layout.report.exists():
        return "`spark-trainer report` makes a page of all this"
    shown = [path for path in (layout.manifest, *summaries) if path.exists()]
    if layout.report.stat().st_mtime_ns < max(path.stat().st_mtime_ns for path in shown):
        return f"{layout.report} is older than this; `spark-trainer report` makes it anew"
    return str(layout.report)


def _next(config: Config, layout: Layout) -> list[str]:
    """Say what a user can do now."""
    page = "`spark-trainer report` shows all of it on a page"
    if layout.report.exists():
        page = f"open {layout.report} in a browser"
    if all(folder.is_relative_to(DEMO) for folder in config.video_dirs):
        own = "video_dir in config/config.yaml takes your own videos, and"
        return [f"Next: {page};", f"{own} `snakemake manifest` shows what comes of them"]
    return [f"Next: {page}; `spark-trainer export --to` hands the data to another tool"]


def _rejected(path: Path) -> list[str]:
    return [
        log.plain(f"{entry['source_path']}: {entry['reason']}") for entry in manifest.rejected(path)
    ]


def _left_out(troubles: Sequence[Trouble]) -> list[str]:
    more = f", {SHOWN} of them shown" if len(troubles) > SHOWN else ""
    return [f"{len(troubles)} this time{more}", *map(str, troubles[:SHOWN])]
