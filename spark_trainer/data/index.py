"""Which videos there are: files found, contents hashed, shards formed, seals named.

Only Snakemake's main process scans and writes. Its result is an immutable snapshot, named by
its own digest, so a job of a running build never sees files that were added later.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spark_trainer.config import Config, ConfigError, shard_bits
from spark_trainer.data.files import digest, file_digest, read_json, write_json
from spark_trainer.data.layout import Layout, Shard, Video

SNAPSHOT_VARIABLE = "SPARK_TRAINER_INDEX"
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Found:
    """One video file. `name` is its path relative to the searched folder."""

    path: str
    name: str
    absolute: str
    size: int
    mtime_ns: int


class Index:
    """The videos of one snapshot: hash -> names of its sources."""

    def __init__(self, layout: Layout, sources: dict[str, list[str]], config: Config) -> None:
        self.layout = layout
        self.sources = sources
        self._config = config

    @cached_property
    def digest(self) -> str:
        """Names this state of the video folders, source names included."""
        return digest(self.sources)[:16]

    @cached_property
    def videos(self) -> dict[str, Video]:
        """Hash -> video, sorted by hash."""
        folder = _hashed_folder if self._config.deterministic_layout else self._named_folder()
        return {h: Video(h, folder(h)) for h in sorted(self.sources)}

    def _named_folder(self) -> Callable[[str], str]:
        """Folders after the first source's file name; a shared name gets the hash's start."""
        stems = {
            h: Path(names[0]).stem.lstrip("./") or "video" for h, names in self.sources.items()
        }
        taken: dict[str, int] = defaultdict(int)
        for stem in stems.values():
            taken[stem] += 1
        return lambda h: stems[h] if taken[stems[h]] == 1 else f"{stems[h]}-{h[:12]}"

    @cached_property
    def by_folder(self) -> dict[str, Video]:
        """Folder -> video."""
        return {video.folder: video for video in self.videos.values()}

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The videos in buckets of their leading bits."""
        width = shard_bits(len(self.videos), self._config.index.shard_size)
        buckets: dict[str, list[Video]] = defaultdict(list)
        for video in self.videos.values():
            buckets[video.bits[:width]].append(video)
        return tuple(Shard(bits, tuple(buckets[bits])) for bits in sorted(buckets))

    def write_shards(self) -> None:
        """Write the member lists that are not there yet."""
        for shard in self.shards:
            path = self.layout.shard(shard.name)
            if not path.exists():
                write_json(path, [[video.hash, video.folder] for video in shard.videos])

    def marker(self, step: str, fingerprint: str, shard: Shard) -> Path:
        """The marker that seals `step` for `shard`, or where it will be.

        A marker over more videos than the shard still holds is as true for those that are
        left, so deleting a video makes no work.
        """
        exact = self.layout.marker(step, shard.name, fingerprint)
        if exact.exists():
            return exact
        members = {(video.hash, video.folder) for video in shard.videos}
        for marker in self._existing[step].get((shard.bits, fingerprint), ()):
            listed = self.layout.shard(marker.name.rsplit(".", 2)[0])
            if listed.exists() and members <= {tuple(member) for member in read_json(listed)}:
                return marker
        return exact

    @cached_property
    def _existing(self) -> "_Markers":
        return _Markers(self.layout)

    def shard_of(self, name: str) -> Shard:
        """The shard called `name`, also one of an earlier snapshot."""
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
        folder = self._layout.sealed(step)
        for path in sorted(folder.glob("b*.jsonl")):
            bits, _, fingerprint, _ = path.name.split(".")
            markers[bits.removeprefix("b"), fingerprint].append(path)
        self[step] = markers
        return markers


def _hashed_folder(video_hash: str) -> str:
    return f"{video_hash[:2]}/{video_hash}"


def find(config: Config) -> list[Found]:
    """Every video file below the configured folders, hidden ones left out.

    Raises:
        ConfigError: a folder that does not exist.
    """
    found: list[Found] = []
    for folder in config.video_dirs:
        if not folder.is_dir():
            raise ConfigError(f"video_dir: no such folder: {folder}")
        root = os.path.join(os.path.abspath(folder), "")
        pending, seen = [(str(folder), "")], {os.path.realpath(folder)}
        while pending:
            path, prefix = pending.pop()
            for entry in os.scandir(path):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real not in seen:
                        seen.add(real)
                        pending.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.name.lower().endswith(config.index.extensions) and entry.is_file():
                    stat = entry.stat()
                    name = prefix + entry.name
                    size, mtime_ns = stat.st_size, stat.st_mtime_ns
                    found.append(Found(entry.path, name, root + name, size, mtime_ns))
    return sorted(found, key=lambda file: (file.name, file.path))


def scan(config: Config, progress: Progress | None = None) -> Index:
    """Find and hash the videos, refresh the links, and write the snapshot.

    Args:
        config: the validated configuration.
        progress: called with the bytes of each file read; given by the `index` command, which
            has no limit on how much it reads.

    Raises:
        ConfigError: a folder is missing, or more than `index.max_hash_gb` would be read.
    """
    layout = Layout(Path(config.output_dir))
    found = find(config)
    cache = read_json(layout.index_cache) if layout.index_cache.exists() else {}
    known = {} if config.index.rehash else {path: tuple(row) for path, row in cache.items()}
    hashes: dict[str, str] = {}
    due: list[Found] = []
    for file in found:
        size, mtime_ns, video_hash = known.get(file.path, (None, None, ""))
        if (size, mtime_ns) == (file.size, file.mtime_ns):
            hashes[file.path] = video_hash
        else:
            due.append(file)
    if progress is None:
        progress = _announce(due, config.index.max_hash_gb)
    hashes.update(_hash(due, progress))
    rows = {file.path: [file.size, file.mtime_ns, hashes[file.path]] for file in found}
    if rows != cache:
        write_json(layout.index_cache, rows)
    sources: dict[str, list[str]] = defaultdict(list)
    for file in found:
        sources[hashes[file.path]].append(file.name)
    _link(layout, found, hashes)
    index = Index(layout, dict(sources), config)
    snapshot = layout.index(index.digest)
    if not snapshot.exists():
        write_json(snapshot, index.sources)
    index.write_shards()
    return index


def load(config: Config, index_digest: str) -> Index:
    """Read the snapshot that the main process wrote."""
    layout = Layout(Path(config.output_dir))
    return Index(layout, read_json(layout.index(index_digest)), config)


def open_index(config: Config, main_process: bool) -> Index:
    """Scan in Snakemake's main process; in its jobs read the snapshot that process left."""
    if not main_process and SNAPSHOT_VARIABLE in os.environ:
        return load(config, os.environ[SNAPSHOT_VARIABLE])
    index = scan(config)
    os.environ[SNAPSHOT_VARIABLE] = index.digest
    return index


def _announce(due: list[Found], limit_gb: float) -> Progress:
    """Say on stderr what a first look at the videos costs; stop where it is too much."""
    total = sum(file.size for file in due)
    if total > limit_gb * 1e9:
        raise ConfigError(
            f"index.max_hash_gb: {len(due)} new videos hold {total / 1e9:.0f} GB, more than the "
            f"limit of {limit_gb:g}; run `python -m spark_trainer index` once, or raise the limit"
        )
    if total > 1e9:
        print(f"reading {len(due)} new videos, {total / 1e9:.1f} GB", file=sys.stderr)
    return lambda size: None


def _hash(files: list[Found], progress: Progress) -> dict[str, str]:
    """SHA-256 of each file; hashlib releases the interpreter, so threads use every core."""

    def one(file: Found) -> tuple[str, str]:
        try:
            result = file.path, file_digest(Path(file.path))
        except OSError as error:
            raise ConfigError(f"video_dir: can't read {file.path!r}: {error.strerror}") from None
        progress(file.size)
        return result

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(one, files))


def _link(layout: Layout, found: list[Found], hashes: dict[str, str]) -> None:
    """Point `videos/<hash>` at the first source; the link's own time is the source's.

    A step compares the two times, so a file changed after it was indexed is noticed.
    """
    first: dict[str, Found] = {}
    for file in found:
        first.setdefault(hashes[file.path], file)
    links = layout.source("")
    links.mkdir(parents=True, exist_ok=True)
    for video_hash, file in first.items():
        link = f"{links}/{video_hash}"
        try:
            if os.readlink(link) != file.absolute:
                os.unlink(link)
                os.symlink(file.absolute, link)
        except FileNotFoundError:
            os.symlink(file.absolute, link)
        if os.lstat(link).st_mtime_ns != file.mtime_ns:
            os.utime(link, ns=(file.mtime_ns, file.mtime_ns), follow_symlinks=False)
