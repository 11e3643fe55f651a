"""Sending files and objects to a browser."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from mimetypes import guess_type
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spark_trainer.data.files import CHUNK_BYTES, canonical_json
from spark_trainer.errors import ABSENT, SparkTrainerError

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
PLAYED = ("audio/", "image/", "video/")
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address is a secret
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Unanswered(SparkTrainerError):
    """A request that is refused: the status, and why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Sender(BaseHTTPRequestHandler):
    """A connection that files and objects are sent over."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "SparkTrainer", ""

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Say nothing: each line would show what the address holds."""

    def send_json(self, status: HTTPStatus, said: dict[str, Any]) -> None:
        """Send an object."""
        content = canonical_json(said).encode("utf-8", "backslashreplace")
        self.send_content(status, "application/json", content, {})

    def send_content(
        self, status: HTTPStatus, kind: str, content: bytes, more: dict[str, str]
    ) -> None:
        """Send some bytes of a kind, with more headers."""
        self._head(status, {"Content-Type": kind, "Content-Length": str(len(content))} | more)
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (HEADERS | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def send_file(
        self, path: Path, kind: str | None = None, more: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Send a file, or the one range of its bytes that is asked for (RFC 9110, section 14).

        Args:
            path: the file.
            kind: its type; without, what its name says, if that is a picture, a sound or a video.
            more: headers.

        Raises:
            Unanswered: there is no such file.
        """
        with _opened(path) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Unanswered(HTTPStatus.NOT_FOUND, "no regular file")
            part = asked_range(self.headers.get("Range"), status.st_size)
            whole = {"Accept-Ranges": "bytes", **more}
            if part is not None and not part:
                whole["Content-Range"] = f"bytes */{status.st_size}"
                why = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
                self.send_content(why, "text/plain", b"", whole)
                return
            whole["Content-Type"] = kind or _kind(path)
            if part is not None:
                whole["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{status.st_size}"
            sent = range(status.st_size) if part is None else part
            whole["Content-Length"] = str(len(sent))
            self._head(HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT, whole)
            if self.command != "HEAD":
                self._copy(descriptor, sent)

    def _copy(self, descriptor: int, part: range) -> None:
        place = part.start
        while place < part.stop:
            block = os.pread(descriptor, min(CHUNK_BYTES, part.stop - place), place)
            if not block:  # it was cut meanwhile
                self.close_connection = True
                return
            self.wfile.write(block)
            place += len(block)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ABSENT:
        raise Unanswered(HTTPStatus.NOT_FOUND, "the file is gone") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _kind(path: Path) -> str:
    """Return the type of a file that a page may show; of others none that a browser would run."""
    guessed = guess_type(path.name)[0] or ""
    return guessed if guessed.startswith(PLAYED) else "application/octet-stream"


def asked_range(header: str | None, size: int) -> range | None:
    """Return the bytes that a `Range` asks for; None where it asks for all, or for several parts.

    An empty range is one that the file doesn't have.
    """
    found = RANGE.fullmatch(header.strip()) if header else None
    first, last = found.groups() if found else ("", "")
    if first:
        stop = min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None  # no range at all, and ignored
        return range(int(first), max(stop, int(first)))
    return range(max(0, size - int(last)), size) if last else None
