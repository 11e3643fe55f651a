"""The one runner of all steps: skip what is current, do the rest, record each, seal the shard."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from spark_trainer import log, steps
from spark_trainer.data import sources
from spark_trainer.data.files import canonical_json, read_json, write_json, write_text
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.errors import MachineError
from spark_trainer.steps import Context, Facts, Step


class Changed(MachineError):
    """A video changed, went away or became unreadable after it was indexed."""


def run(
    name: str, fingerprint: str, shard: Shard, context: Context, marker: Path | None = None
) -> dict[str, int]:
    """Run a step over the videos of a shard.

    A record of the video with the wanted fingerprint, its files all there, is current. Results are
    written one by one, so a killed job loses only what it had in hand.

    Args:
        name: the step.
        fingerprint: names the results that are wanted.
        shard: the videos; a single video is a shard of one.
        context: paths, settings and the number of cores to use.
        marker: written last; absent for a single video.

    Returns:
        Counts of videos by what became of them.

    Raises:
        Changed: a source is gone or newer than the index.
        OSError: no disk space, no permission: nothing that a video is to blame for.
    """
    step = steps.load(name)
    due = [video for video in shard.videos if not current(step, name, fingerprint, video, context)]
    if due or marker:
        withdraw(context.layout.sealed(name), shard.bits, fingerprint, keep=marker)
    records = {video: context.layout.record(video, name) for video in due}
    if not all(same(records[video], video.hash, fingerprint) for video in due):
        withdraw_downstream(context.layout, name, shard.bits)
    for video in due:
        if step.files(context.layout, video, _read(records[video])):
            # A job that dies between a result and its record would leave the old record over it.
            records[video].unlink()
    counts: dict[str, int] = {"current": len(shard.videos) - len(due)}
    with log.progress(name, len(due)) as advance:
        for video, facts in step.produce(due, context) if due else ():
            made = {"step": name, "version": step.VERSION, "fingerprint": fingerprint}
            record = made | {"video": video.hash} | facts
            write_json(records[video], record)
            counts[facts["status"]] = counts.get(facts["status"], 0) + 1
            if facts.get("reason"):
                log.logger.warning("%s %s: %s", name, video.hash[:12], facts["reason"])
            advance()
    if marker:
        write_text(marker, canonical_json(counts) + "\n")
    log.logger.info("%s %s: %s", name, shard.name, canonical_json(counts))
    return counts


def current(step: Step, name: str, fingerprint: str, video: Video, context: Context) -> bool:
    """Whether a record is the wanted one, no failure, and every file that it promises is there."""
    path = context.layout.record(video, name)
    files = step.files(context.layout, video, _read(path))
    return fresh(path, video.hash, fingerprint) and all(file.exists() for file in files)


def fresh(record: Path, video_hash: str, fingerprint: str) -> bool:
    """Whether a record is the wanted one and no failure, which is tried again."""
    return same(record, video_hash, fingerprint) and _read(record)["status"] != "failed"


def same(record: Path, video_hash: str, fingerprint: str) -> bool:
    """Whether a record is of this video and has this fingerprint.

    A folder named after a file may still hold the record of that file's earlier content.
    """
    made = _read(record)
    return (made.get("video"), made.get("fingerprint")) == (video_hash, fingerprint)


def _read(record: Path) -> Facts:
    """A record; empty where there is none that can be read."""
    try:
        return dict(read_json(record))
    except (FileNotFoundError, ValueError):
        return {}


def source(layout: Layout, video: Video) -> Path:
    """The video's file, if it is still the one that was indexed.

    Raises:
        Changed: it is not.
    """
    path = layout.located(video.hash)
    try:
        path = path.resolve(strict=True)
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        change = "went away"
    except (OSError, RuntimeError) as error:  # links in a circle are a RuntimeError
        change = f"became unreadable ({getattr(error, 'strerror', None) or error})"
    else:
        if sources.unchanged(layout, video.hash, status):
            return path
        change = "changed"
    raise Changed(f"{path}: {change} after it was indexed; run snakemake again")


def each(
    function: Callable[[Video, Context], Facts], videos: list[Video], context: Context
) -> Iterator[tuple[Video, Facts]]:
    """Apply a function to every video, `context.workers` at once, results as they come."""
    with ThreadPoolExecutor(context.workers) as pool:
        futures = {pool.submit(function, video, context): video for video in videos}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


def withdraw(folder: Path, bits: str, fingerprint: str, keep: Path | None) -> None:
    """Remove markers that speak of these videos, before their files change.

    Without it A -> B -> A would find A's marker over B's files. Shards overlap when the bits of
    one start with those of the other, as they do after a re-bucketing. With a marker to keep, all
    others go; for a single video (no marker) those of the same fingerprint stay true.
    """
    for marker in folder.rglob("b*.jsonl") if folder.exists() else ():
        other, _, made_by, _ = marker.name.split(".")
        other = other.removeprefix("b")
        overlap = other.startswith(bits) or bits.startswith(other)
        if overlap and marker != keep and (keep or made_by != fingerprint):
            marker.unlink(missing_ok=True)


def withdraw_downstream(layout: Layout, name: str, bits: str) -> None:
    """Remove the markers of what reads this step's results, the manifest's seal with them.

    Snakemake makes nothing of a missing marker while its consumers are there: without this a
    change of settings that stops half-way and is taken back would leave its results in place.
    """
    changed = [steps.kind(name)]
    for other in steps.STEPS:
        if set(steps.load(other).UPSTREAM) & set(changed):
            changed.append(other)
    for other in [*changed[1:], "manifest"]:
        withdraw(layout.sealed(other), bits, "", keep=None)
    for seal in layout.sealed("join").glob("*.json"):
        seal.unlink(missing_ok=True)


def main(
    settings_path: Path, shard: Shard, workers: int, gpus: int, marker: Path | None
) -> dict[str, int]:
    """Run the step that a settings file describes; what the rules call."""
    order: dict[str, Any] = read_json(settings_path)
    settings = steps.load(order["step"]).SETTINGS(**order["settings"])
    context = Context(Layout(Path(order["output_dir"])), settings, workers, gpus)
    return run(order["step"], order["fingerprint"], shard, context, marker)
