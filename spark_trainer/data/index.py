"""The videos of a build: files found, contents hashed, shards formed, markers named.

Only Snakemake's main process scans and writes. Its result is an immutable snapshot, named by
its own digest, so a job of a running build never sees files that were added later.
"""

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from spark_trainer.config import Config, ConfigError, shard_bits
from spark_trainer.data import corrected, corrections, emptied, forgotten, hashing, names, sources
from spark_trainer.data.corrected import Notes
from spark_trainer.data.corrections import Correction
from spark_trainer.data.files import Broken, digest, read_json, write_json
from spark_trainer.data.hashing import Cache, Progress
from spark_trainer.data.labels import kept
from spark_trainer.data.labels.given import CAPTIONED, KINDS, Given
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.data.markers import Markers
from spark_trainer.data.search import Found, Search, find

SNAPSHOT_VARIABLE = "SPARK_TRAINER_INDEX"


class Index:
    """The videos of one snapshot.

    Args:
        layout: paths below `output_dir`.
        sources: hash -> names of the files with this content.
        config: the validated configuration.
        search: what else was found beside the videos; empty where the snapshot was read.
        notes: hash -> what was corrected of the video by hand.
        labels: what the user's files say of videos.
    """

    def __init__(
        self,
        layout: Layout,
        sources: dict[str, list[str]],
        config: Config,
        search: Search | None = None,
        notes: Mapping[str, Notes] | None = None,
        labels: Given | None = None,
    ) -> None:
        self.layout = layout
        self.sources = sources
        self.search = search or Search()
        self.notes = {video: said for video, said in (notes or {}).items() if video in sources}
        self.labels = labels or Given()
        self._plain: dict[str, Shard] = {}  # name of one as a step reads it -> as it is without
        self._corrected: dict[tuple[str, tuple[str, ...]], Shard] = {}
        self._config = config

    @cached_property
    def digest(self) -> str:
        """Return the name of this state of the video folders, file names included."""
        return digest(self.sources)[:16]

    @cached_property
    def corrected(self) -> str:
        """Return the name of what was corrected by hand of these videos; empty without any."""
        return corrected.state(self.notes)

    @property
    def snapshot(self) -> str:
        """Return what `load` takes: the names of the three states."""
        return f"{self.digest}.{self.corrected}.{self.labels.name}".rstrip(".")

    @cached_property
    def videos(self) -> dict[str, Video]:
        """Return hash -> video, sorted by hash."""
        folder = _hashed_folder if self._config.deterministic_layout else self._named_folder()
        return {h: Video(h, folder(h)) for h in sorted(self.sources)}

    def _named_folder(self) -> Callable[[str], str]:
        """Return hash -> folder, each named after its video's first file."""
        stems = {h: Path(files[0]).stem.lstrip("./") for h, files in self.sources.items()}
        return names.folders({h: stem or "video" for h, stem in stems.items()}).__getitem__

    def __str__(self) -> str:
        return f"{len(self.videos)} videos in {len(self.shards)} shards"

    @cached_property
    def by_folder(self) -> dict[str, Video]:
        """Return folder -> video."""
        return {video.folder: video for video in self.videos.values()}

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """Return the videos, divided by their leading bits."""
        width = shard_bits(len(self.videos), self._config.index.shard_size)
        buckets: dict[str, list[Video]] = defaultdict(list)
        for video in self.videos.values():
            buckets[video.bits[:width]].append(video)
        return tuple(Shard(bits, tuple(buckets[bits])) for bits in sorted(buckets))

    def write_shards(self) -> None:
        """Write the member lists that are not there yet, or are broken."""
        for shard in self.lists():
            if not _whole(self.layout.shard(shard.name), shard.name.split(".")[1]):
                self.layout.write_shard(shard)

    def lists(self) -> Iterator[Shard]:
        """Yield the shards as each step reads them."""
        listed = {shard.name: shard for shard in self.shards}
        for kinds in self._read_together():
            listed |= {told.name: told for told in (self.told(one, kinds) for one in self.shards)}
        yield from listed.values()

    def _read_together(self) -> set[tuple[str, ...]]:
        """Return the kinds of corrections and labels that steps read, and the manifest."""
        every = corrected.read_together() | {(CAPTIONED,), (*corrections.KINDS, *KINDS)}
        return every if self.notes or self.labels else set()

    def told(self, shard: Shard, kinds: Sequence[str]) -> Shard:
        """Return a shard as a step reads it, to which these kinds of corrections and labels matter.

        Args:
            shard: as any step reads it, also one of an earlier snapshot. A video of it that is gone
                is left out where something was said of it: nothing says how it is now.
            kinds: that the step reads.
        """
        plain = self._plain.get(shard.name, shard)
        said = tuple(kind for kind in kinds if kind in self._said)
        if plain.plain and not said:
            return plain
        key = (plain.name, said)
        if key not in self._corrected:
            here = [one for one in plain.videos if one.plain or one.hash in self.sources]
            told = Shard(plain.bits, tuple(self.told_of(video, said) for video in here))
            self._corrected[key] = self._named_shards.setdefault(told.name, told)
            if plain.plain:
                self._plain[told.name] = plain
        return self._corrected[key]

    @cached_property
    def _said(self) -> set[str]:
        """Return the kinds of which something is said of any video."""
        labels = {kind for kind, known in self.labels.known.items() if known}
        return labels.union(*self.notes.values())

    def told_of(self, video: Video, kinds: Sequence[str]) -> Video:
        """Return a video as a step knows it, to which these kinds matter."""
        correction = corrected.name(self.notes.get(video.hash, {}), kinds)
        return Video(video.hash, video.folder, correction, self.labels.of(video.hash, kinds))

    def marker(self, step: str, fingerprint: str, shard: Shard) -> Path:
        """Return the marker that says that `step` is done for `shard`, or its path to be.

        A marker of a shard that held more videos counts too: it is as true of those that are left,
        so deleting a video causes no work.
        """
        exact = self.layout.marker(step, shard.name, fingerprint)
        if exact.exists():
            return exact
        members = {*shard.members}
        for marker in self._existing[step].get((shard.bits, fingerprint), ()):
            listed = self.layout.shard(marker.name.rsplit(".", 2)[0])
            whole = _whole(listed, listed.name.split(".")[1])
            if whole and members <= {tuple(member) for member in read_json(listed)}:
                return marker
        return exact

    @cached_property
    def _existing(self) -> Markers:
        return Markers(self.layout)

    def shard_of(self, name: str) -> Shard:
        """Return the shard called `name`, also one of an earlier snapshot."""
        return self._named_shards.get(name) or self.layout.read_shard(self.layout.shard(name))

    @cached_property
    def _named_shards(self) -> dict[str, Shard]:
        return {shard.name: shard for shard in self.shards}


def _hashed_folder(video_hash: str) -> str:
    return f"{video_hash[:2]}/{video_hash}"


def _whole(path: Path, content_digest: str) -> bool:
    """Tell whether a file still holds the JSON with this digest, which its name gives."""
    try:
        content = path.read_bytes().removesuffix(b"\n")
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest().startswith(content_digest)


def scan(config: Config, progress: Progress | None = None) -> Index:
    """Find and hash the videos, note their paths, and write the snapshot.

    Args:
        config: the validated configuration.
        progress: called with the bytes of each file read. The `index` command gives it, and
            with it there is no limit on how much is read.

    Raises:
        ConfigError: a folder is missing or has lost all its videos, more than
            `index.max_hash_gb` would be read, or `output_dir` can't be written.
        Broken: it can't be told which videos are not to be seen again.
        Unreadable: what was corrected by hand is damaged.
    """
    layout = Layout(Path(config.output_dir))
    search, gone = find(config), forgotten.every(layout)
    cache = hashing.read_cache(layout.index_cache)
    known = cache | forgotten.rows(gone)
    hashes = hashing.hashes(config.index, search, known, progress)
    forgotten.leave_out(search, hashes, gone)
    if config.corrections_dir and not config.corrections.is_dir():
        raise ConfigError(f"corrections_dir: no such folder: {config.corrections}")
    by_hand = corrections.every(config.corrections)
    emptied.refuse(config, layout, search, cache, {*hashes.values(), *gone}, hashes)
    hashing.name_emptied(config.video_dirs, search, cache, hashes)
    try:
        forgotten.note(layout, search, hashes, gone)
        return _write(config, layout, search, cache, hashes, by_hand)
    except OSError as error:
        message = f"output_dir: can't write {error.filename or layout.state}: {error.strerror}"
        raise ConfigError(message) from None


def _write(
    config: Config,
    layout: Layout,
    search: Search,
    cache: Cache,
    hashes: dict[str, str],
    by_hand: Mapping[str, Correction],
) -> Index:
    """Write all that jobs read; the cache comes last, as files that it knows are not read again."""
    named: dict[str, list[str]] = defaultdict(list)
    first: dict[str, Found] = {}
    for file in search.files:
        named[hashes[file.path]].append(file.name)
        first.setdefault(hashes[file.path], file)
    sources.write(layout, first)
    search.strays += sorted(by_hand.keys() - named.keys())
    here = {video: said for video, said in by_hand.items() if video in named}
    index = Index(layout, dict(named), config, search, corrected.notes(here))
    index.labels = kept.collect(config, search, hashes, index.sources, layout, index.digest)
    corrected.write(layout, here, index.notes)
    if not _whole(layout.index(index.digest), index.digest):
        write_json(layout.index(index.digest), index.sources)
    index.write_shards()
    rows = {} if config.index.allow_empty else hashing.out_of_reach(search, cache)
    rows |= {f.path: (f.size, f.mtime_ns, hashes[f.path]) for f in search.files}
    if rows != cache:
        write_json(layout.index_cache, rows)
    return index


def states(snapshot: str) -> list[str]:
    """Return the names of the three states of a snapshot; see `Index.snapshot`."""
    return [*snapshot.split("."), "", ""][:3]


def load(config: Config, snapshot: str) -> Index:
    """Read the snapshot that the main process wrote.

    Raises:
        ConfigError: it is gone or broken.
    """
    layout = Layout(Path(config.output_dir))
    index_digest, by_hand, labelled = states(snapshot)
    path = layout.index(index_digest)
    if not _whole(path, index_digest):
        raise ConfigError(f"{path}: missing or broken; run snakemake again")
    try:
        notes, labels = corrected.load(layout, by_hand), kept.load(layout, labelled)
    except (FileNotFoundError, Broken) as error:
        raise ConfigError(f"{error}; run snakemake again") from None
    return Index(layout, read_json(path), config, notes=notes, labels=labels)


def open_index(config: Config, main_process: bool) -> Index:
    """Scan the video folders in Snakemake's main process; in its jobs read its snapshot."""
    if not main_process and SNAPSHOT_VARIABLE in os.environ:
        return load(config, os.environ[SNAPSHOT_VARIABLE])
    index = scan(config)
    for line in index.search.notes():
        print(line, file=sys.stderr)
    os.environ[SNAPSHOT_VARIABLE] = index.snapshot
    return index
