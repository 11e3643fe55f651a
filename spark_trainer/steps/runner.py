"""The one runner of all steps: skip what is current, do the rest, record each, write the marker."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from spark_trainer import steps
from spark_trainer.data import files
from spark_trainer.data.files import canonical_json, write_text
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.errors import MachineError, told
from spark_trainer.steps import promises
from spark_trainer.steps.base import Context, Step
from spark_trainer.steps.parallel import trouble
from spark_trainer.steps.record import Record, Status
from spark_trainer.system import log
from spark_trainer.system.progress import progress


def run(
    name: str, fingerprint: str, shard: Shard, context: Context[Any], marker: Path | None = None
) -> dict[str, int]:
    """Run a step over the videos of a shard.

    A record of the video with the wanted fingerprint, its files all there, is current. Results are
    written one by one, so a killed job loses only what it had in hand. A video that the machine
    fails gets a record that is tried again, and keeps the others from their marker alone.

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
    return Job(steps.load(name), fingerprint, shard, context).run(marker)


@dataclass(frozen=True)
class Job:
    """One step over one shard."""

    step: Step[Any, Any]
    fingerprint: str
    shard: Shard
    context: Context[Any]

    @property
    def layout(self) -> Layout:
        return self.context.layout

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Name the steps whose records are read."""
        return self.step.reads(self.context.settings)

    def path(self, video: Video) -> Path:
        """Name the file of a video's record."""
        return self.step.path(self.layout, video)

    def run(self, marker: Path | None) -> dict[str, int]:
        name, videos = self.step.name, self.shard.videos
        due = [
            video
            for video in videos
            if not promises.current(self.step, self.fingerprint, video, self.layout)
        ]
        self._withdraw(due, marker)
        counts = Counter(current=len(videos) - len(due))
        failed = ""
        with progress(name, len(due)) as advance:
            for video, record in self._produced(due):
                written = self._write(video, record)
                counts[written.status.value] += 1
                if complaint := written.complaint:
                    log.logger.warning("%s %s: %s", name, video.hash[:12], complaint)
                failed = failed or ("" if written.settled else str(written.reason))
                advance()
        records = [self.path(video) for video in videos]
        files.flush([*records, *{record.parent for record in records}])
        log.logger.info("%s %s: %s", name, self.shard.name, canonical_json(counts))
        if failed:
            of = f"{counts['failed']} of {len(videos)} videos failed"
            raise MachineError(f"{name}: {of} and will be tried again, the first: {failed}")
        if marker:
            write_text(marker, canonical_json(counts) + "\n")
        return dict(counts)

    def _withdraw(self, due: list[Video], marker: Path | None) -> None:
        """Remove what would speak of results that are about to change."""
        name, layout, bits = self.step.name, self.layout, self.shard.bits
        if due or marker:
            promises.withdraw(layout.marker_folder(name), bits, self.fingerprint, keep=marker)
        if not marker:
            for video in due:
                promises.withdraw_uncorrected(layout, name, video)
        before = {video: self.step.RECORD.find(self.path(video)) for video in due}
        if not all(promises.same(made, video, self.fingerprint) for video, made in before.items()):
            promises.withdraw_downstream(layout, name, bits)
        for video, made in before.items():
            for folder in {layout.folder(video), self.path(video).parent}:
                files.sweep(folder)  # what dead jobs left
            if promises.promised(self.step, layout, video, made) != []:
                # A job that dies before it has written the new record would leave this one.
                self.path(video).unlink(missing_ok=True)

    def _produced(self, due: list[Video]) -> Iterator[tuple[Video, Record]]:
        """Make what is due; leave out videos of which the earlier steps' results say why."""
        waiting = dict.fromkeys(due)
        for video in due:
            if (record := self._left_out(video)) is not None:
                del waiting[video]
                yield video, record
        for video, record in self.step.produce([*waiting], self.context) if waiting else ():
            del waiting[video]
            yield video, self._checked(video, record)
        for video in waiting:
            yield video, self.step.RECORD.failed("the step said nothing of this video")

    def _left_out(self, video: Video) -> Record | None:
        """Tell what becomes of a video whose earlier results are not all there, or none at all."""
        record: type[Record] = self.step.RECORD
        try:
            upstream = [promises.settled(self.layout, video, name) for name in self.reads]
        except MachineError as error:
            return record.failed(str(error))
        if video.correction:  # a person knows what the earlier steps do not
            return None
        reason = self.step.skips(upstream, video)
        return None if reason is None else record.nothing(reason)

    def _checked(self, video: Video, record: Record) -> Record:
        """Add what the files hold; say that it failed where they, or what was read, are damaged."""
        try:
            if record.unread:
                promises.upheld(self.layout, video, self.reads)
            if not self.step.UPHELD:
                return record
            return replace(record, content=promises.content(self.step, self.layout, video, record))
        except (MachineError, OSError) as error:
            reason = ": ".join(filter(None, [told(error), record.reason]))
            return replace(record, status=Status.FAILED, reason=reason, warning=None)

    def _write(self, video: Video, record: Record) -> Record:
        """Write a record, or that its facts can't be written; returns what is written."""
        try:
            return self._written(video, record)
        except ValueError as error:  # NaN, half an emoji
            return self._written(video, trouble(self.step, error))

    def _written(self, video: Video, record: Record) -> Record:
        stamped = replace(
            record,
            step=self.step.name,
            version=self.step.VERSION,
            fingerprint=self.fingerprint,
            video=video.hash,
            correction=video.correction,
            labels=video.labels,
        )
        stamped.write(self.path(video))
        return stamped
