"""The summary at the end of a build: what went in, what came out, and where it is."""

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from spark_trainer.config import Config
from spark_trainer.data import manifest
from spark_trainer.data.files import read_json
from spark_trainer.data.layout import Layout
from spark_trainer.data.search import SHOWN, Trouble
from spark_trainer.metrics.score import SCORES
from spark_trainer.report import console, failures
from spark_trainer.report.screen import current as screen
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.summary import Summary
from spark_trainer.system import log


def show(config: Config, runs: dict[str, Path], troubles: Sequence[Trouble] = ()) -> None:
    """Print the summary of what is built so far to stderr, and add it to the log."""
    text = lines(config, runs, troubles)
    screen.end()
    print("\n".join(text), file=sys.stderr)
    log.keep(text)


def show_idle(config: Config, runs: dict[str, Path]) -> None:
    """Print that nothing is to be done, and where all of it lies."""
    layout = Layout(Path(config.output_dir))
    rows = [
        *((f"run {name}", _trained(path)) for name, path in runs.items() if path.exists()),
        *([("manifest", str(layout.manifest)), ("report", _page(layout, runs.values()))]),
    ]
    screen.say("\n".join(["Nothing to be done: all of it is there and up to date", *_table(rows)]))


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


def lines(config: Config, runs: dict[str, Path], troubles: Sequence[Trouble] = ()) -> list[str]:
    """Return the lines of the summary; none without a manifest.

    Args:
        config: the validated configuration.
        runs: each run's name and the path of its summary.
        troubles: files and folders that the index left out this time.
    """
    layout = Layout(Path(config.output_dir))
    if not layout.manifest.exists():
        return []
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
    rejected = _rejected(layout.rejected)
    rows = [
        ("videos", f"{videos} contents in {files:.0f} files, {frames:.0f} frames"),
        ("rejected", f"{len(rejected)}" + "".join(f"\n            {line}" for line in rejected)),
        ("left out", _left_out(troubles)) if troubles else ("", ""),
        ("damaged", f"{damaged:.0f} used in part") if damaged else ("", ""),
        ("audio", f"{minutes:.1f} minutes, {words:.0f} words"),
        *((f"run {name}", _trained(path)) for name, path in runs.items() if path.exists()),
        ("manifest", str(layout.manifest)),
        ("report", _page(layout, runs.values())),
        ("log", os.path.relpath(os.environ.get(log.LOG_VARIABLE, "runs"))),
    ]
    return ["", *_table(rows)]


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name:>10}  {text}" for name, text in rows if name]


def _page(layout: Layout, summaries: Iterable[Path]) -> str:
    """Say where the page about all of it is, or what makes it."""
    if not layout.report.exists():
        return "`snakemake report` makes a page of all this"
    shown = [path for path in (layout.manifest, *summaries) if path.exists()]
    if layout.report.stat().st_mtime_ns < max(path.stat().st_mtime_ns for path in shown):
        return f"{layout.report} is older than this; `snakemake report` makes it anew"
    return str(layout.report)


def _rejected(path: Path) -> list[str]:
    return [
        log.plain(f"{entry['source_path']}: {entry['reason']}") for entry in manifest.rejected(path)
    ]


def _left_out(troubles: Sequence[Trouble]) -> str:
    shown = [f"\n            {trouble}" for trouble in troubles[:SHOWN]]
    more = f", {SHOWN} of them shown" if len(troubles) > SHOWN else ""
    return f"{len(troubles)} this time{more}{''.join(shown)}"


def _trained(path: Path) -> str:
    folder = RunFolder(path.parent)
    samples = folder.sample_lists()
    before, after = (read_json(samples[i])[:1] if samples else [] for i in (0, -1))
    said = [
        f"\n            {_sample(old, new, folder)}" for old, new in zip(before, after, strict=True)
    ]
    said += [f"\n            answers {page}" for page in folder.sample_pages()[-1:]]
    summary = Summary.read(folder)
    return f"{_held_out(summary)} on {summary.device}, {folder.final}{''.join(said)}"


def _sample(old: dict[str, Any], new: dict[str, Any], folder: RunFolder) -> str:
    """Say what the model made of a held-out sample, before training and after."""
    if "file" in new:
        return f"held-out video {folder.samples / new['file']}"
    if "edits" in new:
        heard = f"held-out speech {_short(old['text'])} → {_short(new['text'])}"
        return f"{heard} (reference: {_short(new['reference'])})"
    said = f"held-out caption {_short(old['generated'])} → {_short(new['generated'])}"
    return f"{said} (manifest: {_short(new['caption'])})"


def _held_out(summary: Summary) -> str:
    """Say how the held-out videos' objective and scores changed, and in how many updates."""
    changed = ["nothing held out"]
    if summary.first is not None:
        changed = [f"{summary.objective.words} {summary.first:.3f} → {summary.last:.3f}"]
    for name, shown in SCORES.items():
        if shown.column and shown.followed and name in summary.scores:
            first = summary.first_scores.get(name)
            values = [*([first] if first is not None else []), summary.scores[name]]
            changed.append(f"{name} {' → '.join(format(value, shown.form) for value in values)}")
    return f"{', '.join(changed)} in {summary.steps} steps"


def _short(text: str, width: int = 40) -> str:
    """Return a text in quotes, cut to a width."""
    return repr(text if len(text) <= width else f"{text[: width - 1]}…")
