"""The hashes of the video files: each file is read once, and its hash kept in a cache."""

import errno
import hashlib
import io
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import ConfigError, Index
from spark_trainer.data.files import Broken, read_json
from spark_trainer.data.search import Found, Search, Trouble

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

OF_PROCESS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # errors that any file meets
Progress = Callable[[int], object]
Cache = dict[str, tuple[int, int, str]]  # path -> size, time, hash


def _announce(due: list[Found], limit_gb: float) -> Progress:
    """Say on stderr how much must be read; stop where it is more than the limit."""
    total = sum(file.size for file in due)
    if total > limit_gb * 1e9:
        raise ConfigError(
            f"index.max_hash_gb: {len(due)} new videos hold {total / 1e9:.0f} GB, more than the "
            f"limit of {limit_gb:g}; run `python -m spark_trainer index` once, or raise the limit"
        )
    if total > 1e9:
        print(f"reading {len(due)} new videos, {total / 1e9:.1f} GB", file=sys.stderr)
    return lambda size: None


def read_cache(path: Path) -> Cache:
    """Read the last call's hashes; broken rows are left out, and their files read again."""
    try:
        rows: Any = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, Broken):
        rows = None
    good = {
        name: (row[0], row[1], row[2])
        for name, row in (rows.items() if isinstance(rows, dict) else ())
        if _is_row(row)
    }
    if not isinstance(rows, dict) or len(good) < len(rows):
        print(f"{path}: broken; reading the videos in question again", file=sys.stderr)
    return good


def _is_row(row: Any) -> bool:
    return type(row) is list and [*map(type, row)] == [int, int, str] and len(row[2]) == 64


def hashes(
    settings: Index, search: Search, cache: Cache, progress: Progress | None
) -> dict[str, str]:
    """Return the hash of each file; only those are read that the cache doesn't know.

    Args:
        settings: whether to read all files again, and how many gigabytes at most.
        search: the files that were found; afterwards only those that could be read, with their
            present size and time.
        cache: the hashes that the last call knew.
        progress: called with the bytes of each file read; without it the limit counts.

    Returns:
        Path -> hash.

    Raises:
        ConfigError: there is more to read than the limit, or the process can open no more files
            or has no memory left.
    """
    known = {} if settings.rehash else cache
    found: dict[str, str] = {}
    due: list[Found] = []
    for file in search.files:
        size, mtime_ns, video_hash = known.get(file.path, (None, None, ""))
        if (size, mtime_ns) == (file.size, file.mtime_ns):
            found[file.path] = video_hash
        else:
            due.append(file)
    if not due:
        return found
    read: dict[str, Found] = {}
    for result in _hash(due, progress or _announce(due, settings.max_hash_gb)):
        if isinstance(result, Trouble):
            search.troubles.append(result)
        else:
            file, found[file.path] = result
            read[file.path] = file
    search.files = [read.get(f.path, f) for f in search.files if f.path in found]
    return found


def _hash(files: list[Found], progress: Progress) -> Iterable[tuple[Found, str] | Trouble]:
    """Yield each file with its SHA-256; hashlib releases the GIL, so threads use every core.

    After Ctrl-C no thread reads its file to the end, which may take minutes.
    """
    given_up = threading.Event()

    def one(file: Found) -> tuple[Found, str] | Trouble:
        try:
            result = _hash_at_rest(file, given_up)
        except OSError as error:
            if error.errno in OF_PROCESS:
                raise ConfigError(f"can't read {file.path!r}: {error.strerror}") from None
            result = Trouble(file.path, error.strerror or str(error))
        progress(file.size)
        return result

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            yield from pool.map(one, files)
        finally:
            given_up.set()


class _Reading(io.FileIO):
    """A file whose reading fails once it is given up."""

    def __init__(self, path: str, given_up: threading.Event) -> None:
        super().__init__(path)
        self._given_up = given_up

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read as any file does."""
        if self._given_up.is_set():
            raise InterruptedError(errno.EINTR, "given up")
        return super().readinto(buffer)


def _digest(path: str, given_up: threading.Event) -> str:
    with _Reading(path, given_up) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_at_rest(file: Found, given_up: threading.Event) -> tuple[Found, str] | Trouble:
    """Hash a file, a second time where it was written to meanwhile."""
    after = os.stat(file.path)
    for _ in range(2):
        before = after
        video_hash = _digest(file.path, given_up)
        after = os.stat(file.path)
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            return file._replace(size=after.st_size, mtime_ns=after.st_mtime_ns), video_hash
    return Trouble(file.path, "it changes while it is read")


def out_of_reach(search: Search, cache: Cache) -> Cache:
    """Return the cache rows of files that can't be reached this time.

    They stay in the cache, so the files need not be read again when they are back.
    """
    troubled = {trouble.path for trouble in search.troubles}
    return {
        path: row
        for path, row in (cache.items() if troubled else ())
        if troubled & {path, *map(str, Path(path).parents)}
    }


def name_emptied(
    folders: Iterable[Path], search: Search, cache: Cache, hashes: dict[str, str]
) -> None:
    """Note subfolders that held videos and are empty now: they may not be mounted."""
    lost = Counter(map(_emptied, cache.keys() - hashes.keys()))
    for folder in sorted(lost.keys() - {"", *map(str, folders)}):
        reason = f"it held {lost[folder]:,} files and is empty now; is it mounted?"
        search.troubles.append(Trouble(folder, reason))


def _emptied(path: str) -> str:
    """Return the nearest folder left of a missing file's path if it is empty, else no text."""
    for folder in map(str, Path(path).parents):
        try:
            with os.scandir(folder) as entries:
                return "" if any(entries) else folder
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # noted while searching
            break
    return ""
