"""The one runner of all steps: skip what is current, do the rest, record each, seal the shard."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType
from typing import Any

from spark_trainer import log, steps
from spark_trainer.config import ConfigError
from spark_trainer.data import files, sources
from spark_trainer.data.files import canonical_json, write_json, write_text
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.errors import MachineError, UserError, of_machine, told
from spark_trainer.steps import Context, Facts, Step, promises
from spark_trainer.steps.promises import (
    current,
    promised,
    read,
    same,
    settled,
    withdraw,
    withdraw_downstream,
)

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
        for video, facts in _produced(name, due, context):
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
    if promised(step, layout, video, read(record)) != []:
        # A job that dies between a result and its record would leave the old record over it.
        record.unlink(missing_ok=True)


def _produced(name: str, due: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Produce what is due; a video fails whose earlier steps' results are not all there."""
    step, waiting = steps.load(name), dict.fromkeys(due)
    for video in due:
        try:
            for other in _read_by(step, context.settings):
                settled(context.layout, video, other)
        except MachineError as error:
            del waiting[video]
            yield video, {"status": "failed", "reason": str(error)}
    for video, facts in step.produce(list(waiting), context) if waiting else ():
        del waiting[video]
        yield video, _checked(name, video, facts, context)
    for video in waiting:
        yield video, {"status": "failed", "reason": "the step said nothing of this video"}


def _checked(name: str, video: Video, facts: Facts, context: Context) -> Facts:
    """The facts and what they promise; `failed` where that, or what was read, is damaged."""
    try:
        if facts.pop("unread", False):
            promises.upheld(context.layout, video, name)
        return facts | promises.content(steps.load(name), context.layout, video, facts)
    except (MachineError, OSError) as error:
        reason = ": ".join(filter(None, [told(error), facts.get("why")]))
        return facts | {"status": "failed", "reason": reason}


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
    if of_machine(error) or _of_installation(error):
        return {"status": "failed", "reason": said or type(error).__name__}
    log.logger.error("unexpected %s", type(error).__name__, exc_info=error)
    reason = f"unexpected {type(error).__name__}: {said}"
    return {"status": otherwise, "reason": reason} | (
        {"why": reason} if otherwise == "none" else {}
    )


def _of_installation(error: Exception) -> bool:
    """Tell whether a library, or a part of one, is not there, which is no fact about a video."""
    lacks = isinstance(error, AttributeError) and isinstance(error.obj, ModuleType)
    return lacks or isinstance(error, ImportError)


def main(
    settings_path: Path, shard: Shard, workers: int, gpus: int, marker: Path | None
) -> dict[str, int]:
    """Run the step that a settings file describes; what the rules call."""
    order: dict[str, Any] = files.read_state(settings_path, dict)
    settings = steps.load(order["step"]).SETTINGS(**order["settings"])
    context = Context(Layout(Path(order["output_dir"])), settings, workers, gpus)
    return run(order["step"], order["fingerprint"], shard, context, marker)
