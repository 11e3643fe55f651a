"""Whether a store still holds what its records and its manifest say, read to the last byte."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from spark_trainer import steps
from spark_trainer.config import Config
from spark_trainer.data import corrected, forgotten, lock, past
from spark_trainer.data.files import Broken, file_digest, read_json
from spark_trainer.data.index import Index
from spark_trainer.data.layout import OURS, Layout, Video
from spark_trainer.errors import UserError
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.steps import manifest, promises
from spark_trainer.steps.base import Step, word
from spark_trainer.steps.record import Record, is_sealed
from spark_trainer.store import clips, encoders, finding, ours
from spark_trainer.store.decoding import damage
from spark_trainer.store.finding import Finding
from spark_trainer.store.last_build import LastBuild
from spark_trainer.store.lines import Lines

HASHED = "[0-9a-f][0-9a-f]"
NO_RECORD = "no record tells who wrote it"


@dataclass(frozen=True)
class Store:
    """A store as a configuration builds it, and the videos that the last build found."""

    config: Config
    layout: Layout
    last: LastBuild
    index: Index

    @classmethod
    def read(cls, config: Config) -> Self:
        """Read what the last build found; nothing is searched or hashed.

        Raises:
            UserError: nothing was built there, or a build is at work there.
        """
        layout = Layout(Path(config.output_dir))
        if not layout.state.is_dir() and not layout.manifest.is_file():
            raise UserError(f"output_dir: no manifest was built in {layout.root}")
        if at_work := lock.holder_of(layout.lock):
            raise UserError(f"{layout.root} is in use by {at_work}; its files are changing")
        last = LastBuild.find(VideoGraph(config, Index(layout, {}, config)))
        if not last.sources and not last.whole:
            raise UserError(f"output_dir: no manifest was built in {layout.root}")
        sources = {video: list(names) for video, names in last.sources.items()}
        index = Index(layout, sources, config, notes=last.notes, labels=last.labels)
        return cls(config, layout, last, index)

    @cached_property
    def videos(self) -> list[Video]:
        """List the videos, by their hashes."""
        return list(self.index.videos.values())

    @cached_property
    def _required(self) -> list[Step[Any, Any]]:
        """List the steps that have a record of every video.

        Those are the steps of the last whole build that the configuration still has; its captioners
        are known where no setting changed since.
        """
        config, last = self.config, self.last
        if not last.whole:
            return []
        keys = self.index.labels.keys
        same = manifest.fingerprints(config, keys)[manifest.NAME] == last.fingerprint
        read = steps.enabled(config) if same else {*steps.enabled(config)} & {*last.steps}
        return [steps.load(name) for name in sorted(read)]

    def findings(self, workers: int | None = None) -> Iterator[Finding]:
        """Yield what is wrong: of videos by their hashes, then of the rest, then of the manifest.

        Args:
            workers: threads that read; as many as there are cores without.
        """
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            for found in pool.map(self._all_of, self.videos):
                yield from found
            yield from encoders.findings(self.layout, pool)
        root, lines = self.layout.root, Lines(self.config, self.layout, self.last, self.index)
        for part in (self._folders(), self._forgotten(), self._by_hand(), self._state()):
            yield from finding.told_of(part, root)
        yield from finding.told_of(lines.findings(), root)

    def _all_of(self, video: Video) -> list[Finding]:
        return list(finding.told_of(self._video(video), self.layout.folder(video)))

    def _video(self, video: Video) -> Iterator[Finding]:
        yield from self._source(video)
        folder, lost = self.layout.folder(video), list[OSError]()
        if folder.is_symlink():
            yield finding.unknown(folder)
        required = {step.path(self.layout, video): step.name for step in self._required}
        there = list(finding.files(folder, lost)) if folder.is_dir() else []
        yield from (finding.unreadable(error, folder) for error in lost)
        named, whole = set[Path](), True
        for path in there:
            if path.suffix == ".json" and path.is_file():
                accounted, found = self._record(video, path, required.get(path))
                named |= accounted
                whole &= all(one.path != str(path) for one in found)
                yield from found
        held = {path for path in there if path.is_file()}
        for path in sorted(required.keys() - held if not lost else ()):
            whole = False
            yield Finding("missing", str(path), f"what {required[path]} said of the video")
        for path in there:
            if path not in named:
                yield finding.unknown(path) if whole else finding.unknown(path, NO_RECORD)
            elif path.is_symlink():
                yield finding.unknown(path)

    def _source(self, video: Video) -> Iterator[Finding]:
        """Compare the content of a file that holds the video."""
        link, names = self.layout.located(video.hash), self.index.sources[video.hash]
        below = (Path(folder, name) for folder in self.config.video_dirs for name in names)
        path = next((path for path in (link, *below) if path.is_file()), None)
        try:
            if path is None:
                shown = names[0] if link == self.layout.source(video.hash) else link
                yield Finding("source", str(shown), f"gone; {video.hash} was made from it")
            elif file_digest(path) != video.hash:
                yield Finding("source", str(path), f"its content is no longer {video.hash}")
        except OSError as error:
            yield finding.unreadable(error, link)

    def _record(
        self, video: Video, path: Path, required: str | None
    ) -> tuple[set[Path], list[Finding]]:
        """Look into a record; returns the files that it accounts for, and what is wrong.

        Args:
            video: the video in whose folder it lies.
            path: the record.
            required: the step that wrote it, if one must have.
        """
        try:
            said = read_json(path, dict)
            step = _step(said)
            record: Record = step.RECORD.read(path)
        except OSError as error:
            return {path}, [finding.unreadable(error, path)]
        except (Broken, LookupError) as error:
            why = f"no record of {required}: {str(error).removeprefix(f'{path}: ')}"
            return ({path}, [Finding("damaged", str(path), why)]) if required else (set(), [])
        if step.path(self.layout, video) != path:
            why = f"a record of {step.name}"
            return ({path}, [Finding("damaged", str(path), why)]) if required else (set(), [])
        promised = promises.promised(step, self.layout, video, record)
        held = _with_siblings(promised or (), path.parent)
        found = []
        if not is_sealed(said):
            found.append(Finding("edited", str(path), f"not as {step.name} wrote it"))
        elif record.video != video.hash and (self.last.whole or self.config.deterministic_layout):
            found.append(Finding("damaged", str(path), f"the record of video {record.video}"))
        try:
            found += self._held(step, video, record, held)
        except OSError as error:
            found.append(finding.unreadable(error, path))
        return {path, *held}, found

    def _held(
        self, step: Step[Any, Any], video: Video, record: Record, held: set[Path]
    ) -> Iterator[Finding]:
        """Decode what a record promises, and compare it with the record's digest."""
        wrong = False
        for file in sorted(held):
            if not file.is_file():
                found: Finding | None = Finding("missing", str(file), f"{step.name} promises it")
            else:
                why = damage(file)
                found = Finding("damaged", str(file), why) if why else None
            if found:
                wrong = True
                yield found
        if held and not wrong and step.UPHELD:
            whole = promises.content(step, self.layout, video, record)
            if whole != record.content:
                home = self.layout.folder(video)
                roots = {file if file.parent == home else file.parent for file in held}
                where = min(roots)
                yield Finding("damaged", str(where), f"not the bytes that {step.name} wrote")

    def _folders(self) -> Iterator[Finding]:
        """Yield what no video of the last build accounts for."""
        root, known = self.layout.root, {video.folder for video in self.videos}
        for folder in sorted(root.glob(f"{HASHED}/*")):
            if folder.relative_to(root).as_posix() not in known:
                yield _of_none(folder)
        expected = {*OURS, self.layout.state.name, *(Path(name).parts[0] for name in known)}
        for path in sorted(root.iterdir()):
            shard = len(path.name) == 2 and path.is_dir() and path.match(HASHED)
            if path.name not in expected and not shard:
                yield _of_none(path)

    def _by_hand(self) -> Iterator[Finding]:
        """Look into corrections, and into what builds made of them."""
        found = corrected.problems(
            self.layout, self.config.corrections, self.index.notes, self.index.videos
        )
        yield from (_gone_or_damaged(*one) for one in found)

    def _state(self) -> Iterator[Finding]:
        """Look into past manifests, and for what killed processes left beside them."""
        yield from (_gone_or_damaged(*one) for one in past.problems(self.layout))
        for path in finding.files(self.layout.state, []):
            if ours.leftover(path.name):
                yield finding.unknown(path)

    def _forgotten(self) -> Iterator[Finding]:
        """Look into what keeps videos from being taken up again."""
        folder = self.layout.forgotten
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix != ".json" or not path.is_file():
                yield finding.unknown(path)
                continue
            try:
                forgotten.Tombstone.read(path)
            except Broken as error:
                yield Finding("damaged", str(path), str(error).removeprefix(f"{path}: "))
            except OSError as error:
                yield finding.unreadable(error, path)


def _step(said: dict[str, Any]) -> Step[Any, Any]:
    """Return the step that a record names.

    Raises:
        LookupError: there is none.
    """
    name = str(said["step"])
    if word(name) not in steps.STEPS:
        raise LookupError(f"no step is called {name!r}")
    return steps.load(name)


def _with_siblings(promised: Iterable[Path], home: Path) -> set[Path]:
    """Return the files, and those beside them of the same kind where a folder is one result."""
    found = {*promised}
    for folder, kind in {(path.parent, path.suffix) for path in found if path.parent != home}:
        beside = (path for path in folder.glob(f"*{kind}") if not path.name.startswith("."))
        found |= {path for path in beside if path.is_file()}
    return found


def _gone_or_damaged(path: Path, why: str) -> Finding:
    return Finding("damaged" if path.exists() else "missing", str(path), why)


def _of_none(path: Path) -> Finding:
    """Tell what something is where videos' folders lie, that is of no video of the last build."""
    hashed = len(path.name) == 64 and path.parent.match(HASHED)
    records = (one for one in path.glob("*.json") if one.is_file())
    if path.is_dir() and (hashed or any(map(clips.owner, records))):
        return Finding("orphan", str(path), "of no video of the last whole build")
    return finding.unknown(path)
