"""Whether a store still holds what its records and its manifest say, read to the last byte."""

import os
import wave
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from spark_trainer import steps
from spark_trainer.config import Config
from spark_trainer.data import corrected, jsonl, past
from spark_trainer.data.files import Broken, canonical_json, digest, file_digest, read_json
from spark_trainer.data.index import Index
from spark_trainer.data.joining import named_sources
from spark_trainer.data.labels import kept
from spark_trainer.data.layout import OURS, Layout, Video
from spark_trainer.errors import UserError, of_machine, told
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.steps import manifest, promises
from spark_trainer.steps.record import CHECKSUM, Record, Status
from spark_trainer.store.last_build import LastBuild

HASHED = "[0-9a-f][0-9a-f]"


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file or folder, or only to be remarked.

    `kind` is one of `source`, `missing`, `damaged`, `edited`, `foreign`, `leftover`, `manifest`, or
    `orphan`: what is kept of a video that is gone, until `gc` removes it.
    """

    kind: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"

    @property
    def wrong(self) -> bool:
        """Tell whether the store is not as it was written."""
        return self.kind != "orphan"

    def json(self) -> str:
        """Return it as one line of JSON."""
        return canonical_json(asdict(self))


@dataclass(frozen=True)
class Store:
    """A store as a configuration builds it, and the videos that the last build found."""

    config: Config
    layout: Layout
    sources: dict[str, list[str]]  # hash -> names of the files with this content
    folders: dict[str, str]  # hash -> folder below `output_dir`
    index: Index

    @classmethod
    def read(cls, config: Config) -> Self:
        """Read what the last build found; nothing is searched or hashed.

        Raises:
            UserError: nothing was built there.
        """
        layout = Layout(Path(config.output_dir))
        last = LastBuild.find(VideoGraph(config, Index(layout, {}, config)))
        sources = {video: list(names) for video, names in last.sources.items()}
        if not sources:
            raise UserError(f"output_dir: no manifest was built in {layout.root}")
        index = Index(layout, sources, config, notes=last.notes, labels=last.labels)
        folders = {name: video.folder for name, video in index.videos.items()}
        return cls(config, layout, sources, folders, index)

    def findings(self, workers: int | None = None) -> Iterator[Finding]:
        """Yield what is wrong: of videos by their hashes, then of the rest, then of the manifest.

        Args:
            workers: threads that read; as many as there are cores without.
        """
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            videos = [Video(name, folder) for name, folder in sorted(self.folders.items())]
            for found in pool.map(lambda video: list(self._video(video)), videos):
                yield from found
        yield from self._rest()
        yield from self._manifest()

    def _video(self, video: Video) -> Iterator[Finding]:
        source = self.layout.located(video.hash)
        if not source.is_file():
            yield Finding("source", str(source), f"gone; {video.hash} was made from it")
        elif file_digest(source) != video.hash:
            yield Finding("source", str(source), f"its content is no longer {video.hash}")
        folder = self.layout.folder(video)
        named = set[Path]()
        for path in sorted(folder.rglob("*.json")):
            accounted, found = self._record(video, path)
            named |= accounted
            yield from found
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path not in named:
                yield _unknown(path)

    def _record(self, video: Video, path: Path) -> tuple[set[Path], list[Finding]]:
        """Look into a record; returns the files that it accounts for, and what is wrong."""
        try:
            said = read_json(path, dict)
            step = steps.load(str(said["step"]))
            record: Record = step.RECORD.read(path)
        except (Broken, KeyError, UserError):
            return set(), []  # none of ours, and named as that
        if step.path(self.layout, video) != path:
            return set(), []
        promised = promises.promised(step, self.layout, video, record)
        held = _with_siblings(promised or (), path.parent)
        found = []
        if said.pop(CHECKSUM, None) not in (None, digest(said)):
            found.append(Finding("edited", str(path), f"not as {step.name} wrote it"))
        for file in sorted(held):
            if not file.is_file():
                found.append(Finding("missing", str(file), f"{step.name} promises it"))
            elif why := damage(file):
                found.append(Finding("damaged", str(file), why))
        whole = record.content is None or promises.content(step, self.layout, video, record)
        if not found and whole not in (True, record.content):
            where = promised[0] if promised and len(promised) == 1 else path.with_suffix("")
            found.append(Finding("damaged", str(where), f"not the bytes that {step.name} wrote"))
        return {path, *held}, found

    def _rest(self) -> Iterator[Finding]:
        """Yield what no video of the last build accounts for."""
        root, known = self.layout.root, {*self.folders.values()}
        if self.config.deterministic_layout:
            for folder in sorted(root.glob(f"{HASHED}/*")):
                if folder.relative_to(root).as_posix() not in known:
                    yield _of_none(folder)
        ours = {*OURS, self.layout.state.name, *(Path(name).parts[0] for name in known)}
        for path in sorted(root.iterdir()):
            shard = self.config.deterministic_layout and len(path.name) == 2 and path.is_dir()
            if path.name not in ours and not shard:
                yield _unknown(path)
        by_hand = corrected.problems(
            self.layout, self.config.corrections, self.index.notes, self.folders
        )
        for path, why in by_hand:
            yield Finding("damaged" if path.exists() else "missing", str(path), why)
        for path, why in past.problems(self.layout):
            yield Finding("damaged" if path.exists() else "missing", str(path), why)

    def _manifest(self) -> Iterator[Finding]:
        """Yield the lines that say something else than the records do, or of no video."""
        path = self.layout.manifest
        if not path.is_file():
            return
        reported = steps.reported(self.config)
        # Where a single video was made again since, nothing tells which labels the manifest has.
        unknown = not self.index.labels and bool(kept.states(self.layout))
        left = dict(self.folders)
        for number, _, text in jsonl.texts(path):
            where = f"{path}:{number}"
            try:
                entry = jsonl.parsed(text)
                video = Video(str(entry["id"]), left.pop(str(entry["id"])))
            except (ValueError, KeyError):
                yield Finding("manifest", where, "no line of a video of the last build")
                continue
            wanted = self._line(video, reported)
            if wanted is not None and unknown:
                wanted["meta"] = entry["meta"] | wanted["meta"]
            if wanted is not None and canonical_json(wanted) != canonical_json(entry):
                keys = _differing(wanted, entry)
                yield Finding("manifest", where, f"differs from the records in {', '.join(keys)}")
        for name, folder in left.items():
            wanted = self._line(Video(name, folder), reported)
            if wanted is not None and "reason" not in wanted:
                yield Finding("manifest", str(path), f"no line of {name}")

    def _line(self, video: Video, reported: Iterable[str]) -> dict[str, Any] | None:
        """Return the line that the records make; None where they are of other settings."""
        fingerprints = manifest.fingerprints(self.config)
        records: dict[str, Record] = {}
        for name in reported:
            step = steps.load(name)
            record = step.RECORD.find(step.path(self.layout, video))
            if record is None or record.status is Status.FAILED:
                return None
            told = self.index.told_of(video, manifest.corrected(name))
            if not promises.same(record, told, fingerprints[name]):
                return None
            records[name] = record
        try:
            told = self.index.told_of(video, manifest.corrected(manifest.NAME))
            facts = manifest.told(self.layout, told, self.index.labels.keys)
            made = manifest.line(video, records, corrected.of(self.layout, told), facts)
        except Broken:
            return None  # its copy is named as that
        return made | {"meta": named_sources(self.sources[video.hash]) | made["meta"]}


def _with_siblings(promised: Iterable[Path], home: Path) -> set[Path]:
    """Return the files, and those beside them of the same kind where a folder is one result."""
    found = {*promised}
    for folder, kind in {(path.parent, path.suffix) for path in found if path.parent != home}:
        found |= {path for path in folder.glob(f"*{kind}") if not path.name.startswith(".")}
    return found


def _of_none(folder: Path) -> Finding:
    """Tell what a folder is, among those of videos, that is of none of the last build."""
    if len(folder.name) == 64 and folder.is_dir():
        return Finding("orphan", str(folder), "of a video that is gone; `gc` removes it")
    return _unknown(folder)


def _unknown(path: Path) -> Finding:
    if path.name.startswith(".") and path.name.endswith(".tmp"):
        return Finding("leftover", str(path), "left by a process that was killed")
    return Finding("foreign", str(path), "not written by SparkTrainer")


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Name the keys that differ, those of `meta` with its name before them."""
    found = [key for key in sorted({*a, *b} - {"meta"}) if a.get(key) != b.get(key)]
    one, other = ({} if not isinstance(x.get("meta"), dict) else x["meta"] for x in (a, b))
    keys = sorted({*one, *other})
    return found + [f"meta.{key}" for key in keys if one.get(key) != other.get(key)]


def damage(path: Path) -> str | None:
    """Decode a file whole; tell why that fails, None where it does not.

    Raises:
        OSError: the machine can't read it.
    """
    decode = DECODERS.get(path.suffix)
    try:
        if decode:
            decode(path)
    except Exception as error:
        if of_machine(error):
            raise
        return f"can't be decoded: {told(error)}"
    return None


def _jpeg(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def _wav(path: Path) -> None:
    with wave.open(str(path)) as sound:
        promised, size = sound.getnframes(), sound.getnchannels() * sound.getsampwidth()
        there = len(sound.readframes(promised)) // size
    if there != promised:
        raise ValueError(f"{there:,} of {promised:,} samples are there")


def _video(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        for _ in container.decode(video=0):
            pass


def _arrays(path: Path) -> None:
    import numpy as np

    with np.load(path, allow_pickle=False) as held:
        for name in held.files:
            held[name]


def _tensors(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, "np") as held:
        for name in held.keys():  # noqa: SIM118
            held.get_tensor(name)


DECODERS = {
    ".jpg": _jpeg,
    ".png": _jpeg,
    ".wav": _wav,
    ".mp4": _video,
    ".npz": _arrays,
    ".safetensors": _tensors,
}
