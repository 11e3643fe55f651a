"""The videos of a build: files found, contents hashed, shards formed, markers named.

Only Snakemake's main process scans and writes. Its result is an immutable snapshot, named by
its own digest, so a job of a running build never sees files that were added later.
"""

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from spark_trainer.config import Config, ConfigError, shard_bits
from spark_trainer.data import forgotten, hashing, names, sources
from spark_trainer.data.files import digest, read_json, write_json
from spark_trainer.data.forgotten import Tombstone
from spark_trainer.data.hashing import Cache, Progress
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.data.search import Found, Search, find

SNAPSHOT_VARIABLE = "SPARK_TRAINER_INDEX"


class Index:
    """The videos of one snapshot.

    Args:
        layout: paths below `output_dir`.
        sources: hash -> names of the files with this content.
        config: the validated configuration.
        search: what else was found beside the videos; empty where the snapshot was read.
    """

    def __init__(
        self,
        layout: Layout,
        sources: dict[str, list[str]],
        config: Config,
        search: Search | None = None,
    ) -> None:
        self.layout = layout
        self.sources = sources
        self.search = search or Search()
        self._config = config

    @cached_property
    def digest(self) -> str:
        """Return the name of this state of the video folders, file names included."""
        return digest(self.sources)[:16]

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
        for shard in self.shards:
            if not _whole(self.layout.shard(shard.name), shard.name.split(".")[1]):
                self.layout.write_shard(shard)

    def marker(self, step: str, fingerprint: str, shard: Shard) -> Path:
        """Return the marker that says that `step` is done for `shard`, or its path to be.

        A marker of a shard that held more videos counts too: it is as true of those that are left,
        so deleting a video causes no work.
        """
        exact = self.layout.marker(step, shard.name, fingerprint)
        if exact.exists():
            return exact
        members = {(video.hash, video.folder) for video in shard.videos}
        for marker in self._existing[step].get((shard.bits, fingerprint), ()):
            listed = self.layout.shard(marker.name.rsplit(".", 2)[0])
            whole = _whole(listed, listed.name.split(".")[1])
            if whole and members <= {tuple(member) for member in read_json(listed)}:
                return marker
        return exact

    @cached_property
    def _existing(self) -> "_Markers":
        return _Markers(self.layout)

    def shard_of(self, name: str) -> Shard:
        """Return the shard called `name`, also one of an earlier snapshot."""
        return self._named_shards.get(name) or self.layout.read_shard(self.layout.shard(name))

    @cached_property
    def _named_shards(self) -> dict[str, Shard]:
        return {shard.name: shard for shard in self.shards}


class _Markers(dict[str, dict[tuple[str, str], list[Path]]]):
    """step -> (bits, fingerprint) -> markers on disk, listed once per step."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def __missing__(self, step: str) -> dict[tuple[str, str], list[Path]]:
        markers: dict[tuple[str, str], list[Path]] = defaultdict(list)
        folder = self._layout.marker_folder(step)
        for path in sorted(folder.glob("b*.jsonl")):
            bits, _, fingerprint, _ = path.name.split(".")
            markers[bits.removeprefix("b"), fingerprint].append(path)
        self[step] = markers
        return markers


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
    """
    layout = Layout(Path(config.output_dir))
    search, gone = find(config), forgotten.every(layout)
    cache = hashing.read_cache(layout.index_cache)
    known = cache | _rows(gone)
    hashes = hashing.hashes(config.index, search, known, progress)
    _leave_out_forgotten(search, hashes, gone)
    _keep_from_emptying(config, layout, search, cache, {*hashes.values(), *gone}, hashes)
    hashing.name_emptied(config.video_dirs, search, cache, hashes)
    try:
        _note_forgotten(layout, search, hashes, gone)
        return _write(config, layout, search, cache, hashes)
    except OSError as error:
        message = f"output_dir: can't write {error.filename or layout.state}: {error.strerror}"
        raise ConfigError(message) from None


def _write(
    config: Config, layout: Layout, search: Search, cache: Cache, hashes: dict[str, str]
) -> Index:
    """Write all that jobs read; the cache comes last, as files that it knows are not read again."""
    named: dict[str, list[str]] = defaultdict(list)
    first: dict[str, Found] = {}
    for file in search.files:
        named[hashes[file.path]].append(file.name)
        first.setdefault(hashes[file.path], file)
    sources.write(layout, first)
    index = Index(layout, dict(named), config, search)
    if not _whole(layout.index(index.digest), index.digest):
        write_json(layout.index(index.digest), index.sources)
    index.write_shards()
    rows = {} if config.index.allow_empty else hashing.out_of_reach(search, cache)
    rows |= {f.path: (f.size, f.mtime_ns, hashes[f.path]) for f in search.files}
    if rows != cache:
        write_json(layout.index_cache, rows)
    return index


def load(config: Config, index_digest: str) -> Index:
    """Read the snapshot that the main process wrote.

    Raises:
        ConfigError: it is gone or broken.
    """
    layout = Layout(Path(config.output_dir))
    path = layout.index(index_digest)
    if not _whole(path, index_digest):
        raise ConfigError(f"{path}: missing or broken; run snakemake again")
    return Index(layout, read_json(path), config)


def open_index(config: Config, main_process: bool) -> Index:
    """Scan the video folders in Snakemake's main process; in its jobs read its snapshot."""
    if not main_process and SNAPSHOT_VARIABLE in os.environ:
        return load(config, os.environ[SNAPSHOT_VARIABLE])
    index = scan(config)
    for line in index.search.notes():
        print(line, file=sys.stderr)
    os.environ[SNAPSHOT_VARIABLE] = index.digest
    return index


def _rows(gone: dict[str, Tombstone]) -> Cache:
    """Return the rows of the files whose content is not to be seen again."""
    files = (
        (path, video, noted) for video, one in gone.items() for path, noted in one.files.items()
    )
    return {path: (size, mtime_ns, video) for path, video, (size, mtime_ns) in files}


def _leave_out_forgotten(
    search: Search, hashes: dict[str, str], gone: dict[str, Tombstone]
) -> None:
    """Take what is not to be seen again out of what was found."""
    why = {file: gone[hashes[file.path]] for file in search.files if hashes[file.path] in gone}
    search.forgotten |= {file: str(one) for file, one in why.items()}
    search.files = [file for file in search.files if file not in why]


def _note_forgotten(
    layout: Layout, search: Search, hashes: dict[str, str], gone: dict[str, Tombstone]
) -> None:
    """Note where what is not to be seen again lies, so that the next call need not read it."""
    files: dict[str, dict[str, list[int]]] = {video: {} for video in gone}
    for file in search.forgotten:
        files[hashes[file.path]][file.path] = [file.size, file.mtime_ns]
    for video, one in gone.items():
        if files[video] != one.files:
            replace(one, files=files[video]).write(layout)


def _keep_from_emptying(
    config: Config,
    layout: Layout,
    search: Search,
    cache: Cache,
    left: set[str],
    hashes: dict[str, str],
) -> None:
    """Refuse a folder that has lost all of its videos: it may not be mounted.

    Args:
        config: the validated configuration.
        layout: paths below `output_dir`.
        search: what was found.
        cache: the hashes that the last call knew.
        left: those of the videos that are here, or forgotten.
        hashes: of each file that was found.

    Raises:
        ConfigError: a folder has, and `index.allow_empty` is not set.
    """
    if config.index.allow_empty:
        return
    for folder in config.video_dirs:
        below = os.path.join(folder, "")
        if any(path.startswith(below) or path == str(folder) for path in hashes):
            continue
        had = [row[2] for path, row in cache.items() if path.startswith(below)]
        had = [each for each in had if each not in left]
        if had:
            _refuse(search, f"no video in {folder}, which held {len(had):,} in the last build")
    if not left and (cache or _entries(layout.manifest)):
        places = ", ".join(map(str, config.video_dirs))
        _refuse(search, f"no video in {places}, but {config.output_dir} was built from some")


def _refuse(search: Search, found: str) -> None:
    advice = "; is it mounted? `index.allow_empty: true` lets the manifest lose them"
    for line in replace(search, empty=[]).notes():
        print(line, file=sys.stderr)
    raise ConfigError(f"video_dir: {found}{advice}")


def _entries(manifest: Path) -> bool:
    return manifest.is_file() and manifest.stat().st_size > 0
