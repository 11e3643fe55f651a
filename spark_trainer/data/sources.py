"""The file behind each hash, with its size and time when it was indexed.

A step compares the file with that note. The link's own time would not do: the file system of
`output_dir` may keep coarser times than that of the video.
"""

import errno
import os
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from spark_trainer.data.files import Broken, canonical_json, read_json, replacing, write_text
from spark_trainer.data.layout import Layout, Video
from spark_trainer.data.search import Found
from spark_trainer.errors import MachineError

# Errors of file systems without links: FAT and exFAT, SMB and some FUSE drivers.
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES})


class Changed(MachineError):
    """A video changed, went away or became unreadable after it was indexed."""


def write(layout: Layout, first: dict[str, Found]) -> None:
    """Point `videos/<hash>` at each video's first source, and note its size and time.

    Args:
        layout: paths below `output_dir`.
        first: hash -> the file to read.
    """
    links = layout.source("")
    links.mkdir(parents=True, exist_ok=True)
    notes: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for video_hash, file in first.items():
        _point(f"{links}/{video_hash}", file.absolute)
        notes[video_hash[:2]][video_hash] = [file.size, file.mtime_ns]
    for beginning, note in notes.items():
        _settle(layout.seen(beginning), canonical_json(note) + "\n")


def find(layout: Layout, video: Video) -> Path:
    """Find the video's file, if it is still the one that was indexed.

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
        if unchanged(layout, video.hash, status):
            return path
        change = "changed"
    raise Changed(f"{path}: {change} after it was indexed; run snakemake again")


def unchanged(layout: Layout, video_hash: str, status: os.stat_result) -> bool:
    """Tell whether a video's file is still as it was indexed."""
    path = layout.seen(video_hash)
    try:
        now = path.stat()
        note = _note(path, now.st_ino, now.st_size, now.st_mtime_ns)
    except (FileNotFoundError, Broken):
        return False  # the next call of Snakemake writes it anew
    return note.get(video_hash) == [status.st_size, status.st_mtime_ns]


@lru_cache(maxsize=256)
def _note(path: Path, inode: int, size: int, mtime_ns: int) -> dict[str, list[int]]:
    """Read a note, once for all videos in it."""
    return dict(read_json(path, dict))


def _settle(path: Path, text: str) -> None:
    """Write a file unless it holds exactly this; so a broken one is mended by the next call."""
    try:
        if path.read_bytes() == text.encode("utf-8", "surrogateescape"):
            return
    except OSError:  # missing or unreadable; writing it tells what is wrong
        pass
    write_text(path, text, flushed=False)


def _point(link: str, target: str) -> None:
    """Make a link, or a small file that holds the path where the file system has no links.

    It is replaced atomically: a job may be reading it.
    """
    try:
        if _target(link) == target:
            return
    except FileNotFoundError:
        pass
    with replacing(Path(link), flushed=False) as temporary:
        try:
            os.symlink(target, temporary)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            temporary.write_text(target, encoding="utf-8", errors="surrogateescape")


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return Path(link).read_text(encoding="utf-8", errors="surrogateescape")
