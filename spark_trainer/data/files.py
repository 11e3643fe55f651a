"""Digests and all-or-nothing file writes, shared by everything that leaves bytes on disk."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spark_trainer.errors import MachineError
from spark_trainer.system import holder

CHUNK_BYTES = 1 << 20
ABANDONED_SECONDS = 24 * 3600
# Raised by writing alone.
ONLY_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_UMASK = os.umask(0o077)  # it can only be read by setting it
os.umask(_UMASK)
_SHARED = 0o666 & ~_UMASK
NO_FLUSHING = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # of folders, on some file systems


class Broken(MachineError, ValueError):
    """A file of this project that no longer holds what was written: cut, emptied, overwritten."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: the file is broken: {why}")
        self.path = path


def canonical_json(value: Any) -> str:
    """Return a value's only spelling in JSON: sorted keys, no spaces, UTF-8 kept, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """Return the SHA-256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogateescape")).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file's content."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(folder: Path) -> str:
    """Return the SHA-256 over the relative names and contents of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest([[path.relative_to(folder).as_posix(), file_digest(path)] for path in files])


@contextlib.contextmanager
def replacing(path: Path, flushed: bool = True) -> Iterator[Path]:
    """Yield a temporary file beside `path` that is renamed to `path` only if the block succeeds.

    Each writer has a name of its own for it, so two writers never write into one file.

    Args:
        path: the file to write.
        flushed: flush the file to disk before it is renamed, and its folder before the block
            ends. Without it the caller must `flush` before anything relies on the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with naming(path):
            yield temporary
            share([temporary])
            if flushed:
                flush([temporary])
            os.replace(temporary, path)
            if flushed:
                flush([path.parent])
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that is renamed to `path` only if the block succeeds.

    It is flushed to disk before it is renamed. A reader may find no folder for the moment between
    two renames, but never one with old and new files.
    """
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        with naming(path):
            yield temporary
            written = [path for path in temporary.rglob("*") if not path.is_symlink()]
            share(path for path in written if path.is_file())
            flush(written)
            flush([temporary])
            _move_over(temporary, path)
            flush([path.parent])
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_over(folder: Path, path: Path) -> None:
    """Rename a folder to `path`. An old `path` is removed, or put back where this fails."""
    while True:
        old = _temporary(path)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, old)
        try:
            os.rename(folder, path)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another writer was quicker
                with contextlib.suppress(FileNotFoundError):
                    os.rename(old, path)
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """Name a temporary file beside `path`; no two calls use one name, and it names the writer."""
    return path.with_name(f".{path.name}.{holder.this()}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the path to an error of writing; the system doesn't."""
    try:
        yield
    except OSError as error:
        if error.errno in ONLY_WRITING and error.filename is None:
            error.filename = str(path)
        raise


def refusal(folder: Path) -> OSError | None:
    """Return the error by which a folder takes no more bytes; None where it takes some."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file, naming(folder):
            file.write(bytes(CHUNK_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def share(paths: Iterable[Path]) -> None:
    """Let files be read by whom the umask lets read what is written: safetensors lets nobody."""
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode | _SHARED != mode:  # not every file system takes the call
            path.chmod(mode | _SHARED)


def flush(paths: Iterable[Path]) -> None:
    """Wait until files, or the names in folders, are on disk.

    Writing is begun for all before any is waited for: 100 frames take 8 ms instead of 20.
    """
    paths = list(paths)
    if hasattr(os, "posix_fadvise"):
        for path in paths:
            with _opened(path) as descriptor:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    for path in paths:
        with _opened(path) as descriptor:
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno in NO_FLUSHING and path.is_dir():
                    continue
                error.filename = str(path)
                raise


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove the temporary files that dead writers left in a folder.

    Whether a writer on another machine lives is not known. Its files are removed when they have not
    changed for a day, by the clock of the file system.
    """
    for path in folder.glob(".*.tmp"):
        writer = holder.parse(path.name)
        with contextlib.suppress(FileNotFoundError):
            if writer and (writer.dead or (not writer.here and age(path) > ABANDONED_SECONDS)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def age(path: Path) -> float:
    """Return the seconds since a file or folder changed, by the clock that stamps files there."""
    with tempfile.TemporaryFile(dir=path.parent) as now:
        return os.fstat(now.fileno()).st_mtime - path.stat().st_mtime


def write_text(path: Path, text: str, flushed: bool = True) -> None:
    """Write `text` atomically: neither a reader nor a crash ever leaves half a file."""
    with replacing(path, flushed) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_json(path: Path, value: Any, flushed: bool = True) -> None:
    """Write canonical JSON with a final newline, atomically."""
    write_text(path, canonical_json(value) + "\n", flushed)


def read_json(path: Path, kind: type = object) -> Any:
    """Read what `write_json` wrote.

    Args:
        path: the file.
        kind: what it must hold, such as `dict`.

    Raises:
        Broken: it holds something else, or no JSON at all.
        OSError: it can't be read; FileNotFoundError where there is no file.
    """
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Broken(path, f"no JSON: {error}" if text.strip("\0 \n") else "empty") from None
    if not isinstance(value, kind):
        raise Broken(path, f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def read_state(path: Path, kind: type = object) -> Any:
    """Read a file of the workflow's own state, which the next call writes again if it is missing.

    Raises:
        Broken: as `read_json`; the file is removed, so that the next call writes it again.
    """
    try:
        return read_json(path, kind)
    except Broken:
        path.unlink(missing_ok=True)
        raise


def holds(path: Path, value: Any) -> bool:
    """Tell whether a file is there and holds what `write_json` would write."""
    try:
        return bool(digest(read_json(path)) == digest(value))
    except (FileNotFoundError, Broken):
        return False
