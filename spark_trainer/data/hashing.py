"""What the files hold: hashes, each file read once, and what is known of those left out."""

import errno
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from spark_trainer.config import ConfigError, Index
from spark_trainer.data.files import Broken, file_digest, read_json
from spark_trainer.data.search import Found, Search, Trouble

TAKES_ALL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # trouble of no single file
Progress = Callable[[int], object]
Cache = dict[str, tuple[int, int, str]]  # path -> size, time, hash


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


def read_cache(path: Path) -> Cache:
    """What the last call knew; rows that are broken are left out, and their files read again."""
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
    """Hash what the cache does not know.

    Args:
        settings: whether to hash all, and how much at most.
        search: what was found; then holds only files that could be read, as they now are.
        cache: what the last call knew.
        progress: called with the bytes of each file read; without it there is a limit.

    Returns:
        Path -> hash.

    Raises:
        ConfigError: there is too much to read, or no file can be opened or held in memory.
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
    """SHA-256 of each file; hashlib releases the interpreter, so threads use every core."""

    def one(file: Found) -> tuple[Found, str] | Trouble:
        try:
            result = _hash_at_rest(file)
        except OSError as error:
            if error.errno in TAKES_ALL:
                raise ConfigError(f"can't read {file.path!r}: {error.strerror}") from None
            result = Trouble(file.path, error.strerror or str(error))
        progress(file.size)
        return result

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(one, files)


def _hash_at_rest(file: Found) -> tuple[Found, str] | Trouble:
    """Hash a file, once more where it was written to meanwhile."""
    after = os.stat(file.path)
    for _ in range(2):
        before = after
        video_hash = file_digest(Path(file.path))
        after = os.stat(file.path)
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            return file._replace(size=after.st_size, mtime_ns=after.st_mtime_ns), video_hash
    return Trouble(file.path, "it changes while it is read")


def out_of_reach(search: Search, cache: Cache) -> Cache:
    """What is known of files that are left out this time: they need not be read to come back."""
    troubled = {trouble.path for trouble in search.troubles}
    return {
        path: row
        for path, row in (cache.items() if troubled else ())
        if troubled & {path, *map(str, Path(path).parents)}
    }


def name_emptied(
    folders: Iterable[Path], search: Search, cache: Cache, hashes: dict[str, str]
) -> None:
    """Add subfolders to the troubles that held videos and are empty: they may not be mounted."""
    lost = Counter(map(_emptied, cache.keys() - hashes.keys()))
    for folder in sorted(lost.keys() - {"", *map(str, folders)}):
        reason = f"it held {lost[folder]:,} files and is empty now; is it mounted?"
        search.troubles.append(Trouble(folder, reason))


def _emptied(path: str) -> str:
    """The folder nearest to a file that is gone, if nothing is left in it, else nothing."""
    for folder in map(str, Path(path).parents):
        try:
            with os.scandir(folder) as entries:
                return "" if any(entries) else folder
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # it is among the troubles
            break
    return ""
