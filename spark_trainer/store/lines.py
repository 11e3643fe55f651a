"""Whether the manifest, the list of rejected videos and their types say what the records say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spark_trainer import steps
from spark_trainer.config import Config
from spark_trainer.data import corrected, jsonl, meta, past
from spark_trainer.data.files import Broken, canonical_json, file_digest, holds
from spark_trainer.data.index import Index
from spark_trainer.data.joining import joined
from spark_trainer.data.labels import kept
from spark_trainer.data.layout import Layout, Video
from spark_trainer.errors import UserError
from spark_trainer.steps import manifest, promises
from spark_trainer.steps.record import Record, Status
from spark_trainer.store.finding import Finding, unreadable
from spark_trainer.store.last_build import LastBuild

KIND = "manifest"


@dataclass(frozen=True)
class Lines:
    """The lists of a store's videos, and the records that they are made of."""

    config: Config
    layout: Layout
    last: LastBuild
    index: Index

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return manifest.fingerprints(self.config)

    def findings(self) -> Iterator[Finding]:
        """Yield lines that say something else than the records, and lists that nobody built.

        Where the last build has not ended, records may be newer than the lists.
        """
        found = list[Finding]()
        if self.last.whole:
            for path, refused in ((self.layout.manifest, False), (self.layout.rejected, True)):
                found += self._list(path, refused)
            found += self._types(self.layout.manifest.with_suffix(".features.json"))
        yield from found or self._bytes()

    def _types(self, features: Path) -> Iterator[Finding]:
        if not features.is_file():
            yield Finding("missing", str(features), "the last build wrote it")
        elif not holds(features, meta.features(self.index.labels.keys)):
            yield Finding("edited", str(features), "not the types of the manifest's keys")

    def _bytes(self) -> Iterator[Finding]:
        """Compare the manifest with those that were kept."""
        path = self.layout.manifest
        try:
            if path.is_file() and file_digest(path) not in past.digests(self.layout):
                yield Finding(KIND, str(path), "not what any build wrote; see `manifest list`")
        except OSError as error:
            yield unreadable(error, path)

    def _list(self, path: Path, refused: bool) -> Iterator[Finding]:
        if not path.is_file():
            yield Finding("missing", str(path), "the last build wrote it")
            return
        left = {video.hash: video for video in self.index.videos.values()}
        try:
            for number, _, text in jsonl.texts(path):
                yield from self._line(f"{path}:{number}", text, left, refused)
        except jsonl.Broken as error:
            yield Finding(KIND, str(path), str(error).removeprefix(f"{path}:").strip())
            return
        except OSError as error:
            yield unreadable(error, path)
            return
        for video in left.values():
            wanted = self._find(video)
            if wanted is not None and ("reason" in wanted) == refused:
                yield Finding(KIND, str(path), f"no line of {video.hash}")

    def _line(
        self, where: str, text: bytes, left: dict[str, Video], refused: bool
    ) -> Iterator[Finding]:
        """Compare a line with the records of its video, which is taken out of `left`."""
        try:
            entry = jsonl.parsed(text)
            video = left.pop(str(entry["id"]))
        except (ValueError, KeyError):
            yield Finding(KIND, where, "no line of a video of the last build")
            return
        try:
            wanted = self._made(video)
        except (UserError, ValueError) as error:
            yield Finding(KIND, where, str(error))
            return
        if wanted is None:
            return
        if ("reason" in wanted) != refused:
            why = "rejected" if "reason" in wanted else "not rejected"
            yield Finding(KIND, where, f"the records say that the video is {why}")
        elif canonical_json(wanted) != canonical_json(entry):
            keys = ", ".join(_differing(wanted, entry))
            yield Finding(KIND, where, f"differs from the records in {keys}")

    def _find(self, video: Video) -> dict[str, Any] | None:
        try:
            return self._made(video)
        except (UserError, ValueError):  # the record is named as edited
            return None

    def _made(self, video: Video) -> dict[str, Any] | None:
        """Return the line that the records make; None where they are of other settings.

        Raises:
            UserError, ValueError: they make none.
        """
        records: dict[str, Record] = {}
        for name in self.last.steps:
            step = steps.load(name)
            path = step.path(self.layout, video)
            try:
                record = step.RECORD.find(path) if path.is_file() else None
            except OSError:  # named as that
                return None
            if record is None or record.status is Status.FAILED:
                return None
            told = self.index.told_of(video, manifest.corrected(name))
            if not promises.same(record, told, self._fingerprints.get(name, "")):
                return None
            records[name] = record
        try:
            told = self.index.told_of(video, manifest.corrected(manifest.NAME))
            facts = manifest.told(self.layout, told, self.index.labels.keys, kept.look)
            made = manifest.line(video, records, corrected.look(self.layout, told), facts)
        except Broken:
            return None  # its copy is named as that
        return joined(made, self.index.sources[video.hash])


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Name the keys that differ, those of `meta` with its name before them."""
    found = [key for key in sorted({*a, *b} - {"meta"}) if a.get(key) != b.get(key)]
    one, other = ({} if not isinstance(x.get("meta"), dict) else x["meta"] for x in (a, b))
    keys = sorted({*one, *other})
    return found + [f"meta.{key}" for key in keys if one.get(key) != other.get(key)]
