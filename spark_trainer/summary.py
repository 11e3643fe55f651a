"""The few lines that a build ends with: what went in, what came out, where it lies."""

import os
import sys
from pathlib import Path

from spark_trainer import log
from spark_trainer.config import Config
from spark_trainer.data import manifest
from spark_trainer.data.files import read_json
from spark_trainer.data.layout import Layout


def show(config: Config, runs: dict[str, Path]) -> None:
    """Print the summary of what is built so far to stderr, and add it to the log."""
    text = "\n".join(lines(config, runs))
    print(text, file=sys.stderr)
    with open(log.name_file(), "a", encoding="utf-8") as file:
        file.write(text + "\n")


def show_failure() -> None:
    """Say where to look after a failed build."""
    print(f"failed; see {os.environ[log.LOG_VARIABLE]}", file=sys.stderr)


def lines(config: Config, runs: dict[str, Path]) -> list[str]:
    """The summary, a line each; empty without a manifest.

    Args:
        config: the validated configuration.
        runs: each run's name and where its `trained.json` is, or will be.
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
        ("damaged", f"{damaged:.0f} used in part") if damaged else ("", ""),
        ("audio", f"{minutes:.1f} minutes, {words:.0f} words"),
        *((f"run {name}", _trained(path)) for name, path in runs.items() if path.exists()),
        ("manifest", str(layout.manifest)),
        ("log", os.path.relpath(os.environ.get(log.LOG_VARIABLE, "runs"))),
    ]
    return ["", *(f"{name:>10}  {text}" for name, text in rows if name)]


def _rejected(path: Path) -> list[str]:
    return [f"{entry['source_path']}: {entry['reason']}" for entry in manifest.rejected(path)]


def _trained(path: Path) -> str:
    summary = read_json(path)
    first, last = summary["first_loss"], summary["last_loss"]
    samples = sorted((path.parent / "samples").glob("step_*.json"))
    before, after = (read_json(samples[i])[:1] for i in (0, -1))
    said = [
        f"\n            held-out caption {_short(old['generated'])} → {_short(new['generated'])}"
        f" (manifest: {_short(new['caption'])})"
        if "generated" in new
        else f"\n            held-out video {path.parent / 'samples' / new['file']}"
        for old, new in zip(before, after, strict=True)
    ]
    return (
        f"held-out loss {first:.3f} → {last:.3f} in {summary['steps']} steps on "
        f"{summary['device']}, {path.parent / 'final'}{''.join(said)}"
    )


def _short(text: str, width: int = 40) -> str:
    """The text in quotes, cut to a width that leaves room on the line."""
    return repr(text if len(text) <= width else f"{text[: width - 1]}…")
