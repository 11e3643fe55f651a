"""The one runner of all steps: skip what is current, do the rest, record each, seal the shard."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from spark_trainer import log, steps
from spark_trainer.config import ConfigError
from spark_trainer.data import files, sources
from spark_trainer.data.files import canonical_json, read_json, write_json, write_text
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.errors import MachineError, UserError, of_machine
from spark_trainer.steps import Context, Facts, Step

SETTLED = ("ok", "none", "rejected")  # what a record's `status` may be under a seal
LONGEST = 500  # characters of an unexpected error's message


class Changed(MachineError):
    """A video changed, went away or became unreadable after it was indexed."""


def run(
    name: str, fingerprint: str, shard: Shard, context: Context, marker: Path | None = None
) -> dict[str, int]:
    """Run a step over the videos of a shard.

    A record of the video with the wanted fingerprint, its files all there, is current. Results are
    written one by one, so a killed job loses only what it had in hand. A video that the machine
    fails gets a record that is tried again, and keeps the others from their seal alone.

    Args:
        name: the step.
        fingerprint: names the results that are wanted.
        shard: the videos; a single video is a shard of one.
        context: paths, settings and the number of cores to use.
        marker: written last, when all that it speaks of is on disk; absent for a single video.

    Returns:
        Counts of videos by what became of them.

    Raises:
        ConfigError: the settings can't be carried out.
        MachineError: some videos failed; those that did not are recorded.
        OSError: a record can't be written.
    """
    step, layout = steps.load(name), context.layout
    due = [video for video in shard.videos if not current(step, name, fingerprint, video, context)]
    if due or marker:
        withdraw(layout.sealed(name), shard.bits, fingerprint, keep=marker)
    if not all(same(layout.record(video, name), video.hash, fingerprint) for video in due):
        withdraw_downstream(layout, name, shard.bits)
    for video in due:
        _make_room(step, layout, video, layout.record(video, name))
    counts: dict[str, int] = {"current": len(shard.videos) - len(due)}
    made = {"step": name, "version": step.VERSION, "fingerprint": fingerprint}
    failed = ""
    with log.progress(name, len(due)) as advance:
        for video, facts in _produced(step, due, context):
            status = _write(step, layout.record(video, name), made | {"video": video.hash}, facts)
            counts[status] = counts.get(status, 0) + 1
            if reason := facts.get("reason"):
                log.logger.warning("%s %s: %s", name, video.hash[:12], reason)
            failed = failed or (str(reason) if status == "failed" else "")
            advance()
    records = [layout.record(video, name) for video in shard.videos]
    files.flush([*records, *{record.parent for record in records}])
    log.logger.info("%s %s: %s", name, shard.name, canonical_json(counts))
    if failed:
        of = f"{counts['failed']} of {len(shard.videos)} videos failed"
        raise MachineError(f"{name}: {of} and will be tried again, the first: {failed}")
    if marker:
        write_text(marker, canonical_json(counts) + "\n")
    return counts


def _make_room(step: Step, layout: Layout, video: Video, record: Path) -> None:
    """Remove what dead jobs left of a video, and a record that would stand over new files."""
    for folder in {layout.folder(video), record.parent}:
        files.sweep(folder)
    if _promised(step, layout, video, _read(record)) != []:
        # A job that dies between a result and its record would leave the old record over it.
        record.unlink(missing_ok=True)


def _produced(step: Step, due: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Produce what is due; a video fails whose earlier steps' results are not all there."""
    waiting = dict.fromkeys(due)
    for video in due:
        try:
            for name in _read_by(step, context.settings):
                settled(context.layout, video, name)
        except MachineError as error:
            del waiting[video]
            yield video, {"status": "failed", "reason": str(error)}
    for video, facts in step.produce(list(waiting), context) if waiting else ():
        del waiting[video]
        yield video, facts
    for video in waiting:
        yield video, {"status": "failed", "reason": "the step said nothing of this video"}


def _read_by(step: Step, settings: Any) -> Iterator[str]:
    """Name the steps whose records a step reads."""
    for kind in step.UPSTREAM:
        if kind == "caption":
            yield from (f"caption/{backend}" for backend in settings.captioners)
        else:
            yield kind


def _write(step: Step, path: Path, made: Facts, facts: Facts) -> str:
    """Write a record, or that these facts can't be written; returns the status."""
    try:
        write_json(path, made | facts, flushed=False)
    except ValueError as error:  # NaN, half an emoji
        facts = dict.fromkeys(facts) | trouble(error, "none" if step.UPSTREAM else "rejected")
        write_json(path, made | facts, flushed=False)
    return str(facts["status"])


def current(step: Step, name: str, fingerprint: str, video: Video, context: Context) -> bool:
    """Whether a record is the wanted one, no failure, and every file that it promises is there."""
    path = context.layout.record(video, name)
    promised = _promised(step, context.layout, video, _read(path))
    return (
        fresh(path, video.hash, fingerprint)
        and promised is not None
        and all(file.exists() for file in promised)
    )


def fresh(record: Path, video_hash: str, fingerprint: str) -> bool:
    """Whether a record is the wanted one and no failure, which is tried again."""
    return same(record, video_hash, fingerprint) and _read(record).get("status") in SETTLED


def same(record: Path, video_hash: str, fingerprint: str) -> bool:
    """Whether a record is of this video and has this fingerprint.

    A folder named after a file may still hold the record of that file's earlier content.
    """
    made = _read(record)
    return (made.get("video"), made.get("fingerprint")) == (video_hash, fingerprint)


def _promised(step: Step, layout: Layout, video: Video, record: Facts) -> list[Path] | None:
    """Name the files that a record promises; none at all if it is no record of this step."""
    try:
        return step.files(layout, video, record)
    except (KeyError, TypeError, AttributeError):
        return None


def _read(record: Path) -> Facts:
    """A record; empty where there is none, or a broken one."""
    try:
        return dict(read_json(record, dict))
    except (FileNotFoundError, files.Broken):
        return {}


def settled(layout: Layout, video: Video, name: str) -> Facts:
    """Read what an earlier step's seal says is there: a record, and the files that it promises.

    Raises:
        MachineError: it is not. The seal is withdrawn, so that the next call makes it again.
    """
    path = layout.record(video, name)
    record = _read(path)
    promised = _promised(steps.load(name), layout, video, record)
    if record.get("status") not in SETTLED or record.get("video") != video.hash or promised is None:
        missing: Path | None = path
    else:
        missing = next((file for file in promised if not file.exists()), None)
    if missing is None:
        return record
    path.unlink(missing_ok=True)
    withdraw(layout.sealed(name), video.bits, "", keep=None)
    withdraw_downstream(layout, name, video.bits)
    raise MachineError(f"{missing}: gone or broken; the next call makes it again")


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
    """Apply a function to every video, `context.workers` at once, results as they come.

    An error of one video becomes its record.

    Raises:
        ConfigError: the settings can't be carried out; no other video is begun.
    """

    def one(video: Video) -> Facts:
        try:
            return function(video, context)
        except Exception as error:
            return trouble(error, "rejected")

    with ThreadPoolExecutor(context.workers) as pool:
        futures = {pool.submit(one, video): video for video in videos}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


def trouble(error: Exception, otherwise: str) -> Facts:
    """Say what an error makes of the one video at which it happened.

    Args:
        error: what was raised.
        otherwise: the status where the machine is not to blame: `rejected`, or `none`.

    Returns:
        `failed`, to be tried again, where the machine is; else that status.

    Raises:
        ConfigError: the error itself, where the settings are to blame.
    """
    if isinstance(error, ConfigError | UserError):
        raise error
    said = " ".join(str(error).split())[:LONGEST]
    if of_machine(error):
        return {"status": "failed", "reason": said or type(error).__name__}
    log.logger.error("unexpected %s", type(error).__name__, exc_info=error)
    reason = f"unexpected {type(error).__name__}: {said}"
    return {"status": otherwise, "reason": reason} | (
        {"why": reason} if otherwise == "none" else {}
    )


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
    order: dict[str, Any] = files.read_state(settings_path, dict)
    settings = steps.load(order["step"]).SETTINGS(**order["settings"])
    context = Context(Layout(Path(order["output_dir"])), settings, workers, gpus)
    return run(order["step"], order["fingerprint"], shard, context, marker)
