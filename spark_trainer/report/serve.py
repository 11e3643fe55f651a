"""A page served to this machine alone, on which the videos of a store play and are corrected.

The address holds a token; without it, under another host's name, or from another page's script
nothing is answered. A request names a video by its hash, never a path.

GET   <address>                      the page
GET   <address>video/<hash>          the video's file
GET   <address>file/<name>           another file that the page links to, by a digest of its path;
                                     of a folder of frames also file/<name>/frame_000001.jpg
GET   <address>corrections/<hash>    what is said of a video now, as the page edits it
POST  <address>corrections           {hash, caption?, transcript?, flag?, exclude?, author?,
                                     before?}: nothing is written where a text is no longer that of
                                     `before`, which the editor saw
"""

import re
import secrets
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spark_trainer.data import sources
from spark_trainer.data.jsonl import parsed
from spark_trainer.data.layout import Video
from spark_trainer.errors import MachineError, UserError, told
from spark_trainer.report.listed import Listed
from spark_trainer.report.sending import Sender, Unanswered
from spark_trainer.store.correct import Editor

LOOPBACK = "127.0.0.1"
MOST_BYTES = 1 << 22  # of a request
PATIENCE_S = 30.0  # with a browser that stops in the middle of a request
FRAME = re.compile(r"frame_[0-9]{6,12}\.[a-z]{3,4}")
POLICY = {"Content-Security-Policy": "frame-ancestors 'none'"}  # the page itself says the rest
Render = Callable[[Path], Mapping[str, Path]]  # writes the page; returns name -> linked file
LONGEST = 200  # characters of what somebody else wrote, in a refusal


class Server(ThreadingHTTPServer):
    """The server of a page over a store.

    Args:
        editor: the store, and who corrects it unless a request says who.
        render: makes the page.
        port: 0 takes any that is free.
        runs: returns what is another as soon as a run that the page shows went on.

    Raises:
        OSError: the port can't be had.
    """

    daemon_threads = True
    request_queue_size = 128  # a page asks for a dozen frames of each video at once

    def __init__(
        self, editor: Editor, render: Render, port: int, runs: Callable[[], object] = str
    ) -> None:
        self.editor, self.render, self._runs = editor, render, runs
        self.listed = Listed(editor.layout)
        self.token = secrets.token_urlsafe(24)
        self.files: Mapping[str, Path] = {}
        self._folder = tempfile.TemporaryDirectory()
        self._lock, self._rendered = threading.Lock(), object()
        self.editing = threading.Lock()
        super().__init__((LOOPBACK, port), Handler)

    def server_close(self) -> None:
        """Close it, and remove the page."""
        super().server_close()
        self._folder.cleanup()

    def page(self) -> Path:
        """Return the page's file, made again after a build, or where a run went on."""
        path = Path(self._folder.name, "report.html")
        with self._lock:
            state = self.listed.state(), self._runs()
            if state != self._rendered:
                self.files, self._rendered = self.render(path), state
        return path

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """Return the names that a browser on this machine calls it by."""
        return tuple(f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost"))

    @property
    def address(self) -> str:
        """Return the secret address."""
        return f"http://{self.hosts[0]}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that is gone: it leaves a video when it has seen enough."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            traceback.print_exc()


class Handler(Sender):
    """One connection of a browser."""

    server: Server
    timeout = PATIENCE_S

    def do_GET(self) -> None:  # noqa: N802
        """Answer with a page, a file, or what is said of a video."""
        self._answer(self._get)

    def do_HEAD(self) -> None:  # noqa: N802
        """Answer as GET, without the content."""
        self._answer(self._get)

    def do_POST(self) -> None:  # noqa: N802
        """Write a correction."""
        self._answer(self._post)

    def _answer(self, act: Callable[[str], None]) -> None:
        """Act on what stands behind the token, or say why not."""
        try:
            act(self._behind_token())
        except ConnectionError:
            raise
        except Unanswered as error:
            self._refuse(error.status, str(error))
        except UserError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (MachineError, OSError) as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, told(error))

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True  # of the request a part may not be read
        self.send_json(status, {"error": message})

    def _behind_token(self) -> str:
        """Return the path behind the token.

        Raises:
            Unanswered: the token is another, or the request is not a browser's on this machine.
        """
        if (self.headers.get_all("Host") or []) not in [[host] for host in self.server.hosts]:
            raise Unanswered(HTTPStatus.FORBIDDEN, "this host is not served")
        token, _, rest = urlsplit(self.path).path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise Unanswered(HTTPStatus.FORBIDDEN, "expected the whole address, with its token")
        return rest

    def _get(self, path: str) -> None:
        kind, _, rest = path.partition("/")
        video, _, name = rest.partition("/")
        if not path:
            self.send_file(self.server.page(), "text/html; charset=utf-8", POLICY)
        elif kind == "file":
            self.send_file(self._linked(video, name))
        elif video not in self.server.listed:
            raise Unanswered(HTTPStatus.NOT_FOUND, "no such video in the manifest")
        elif kind == "corrections" and not name:
            self.send_json(HTTPStatus.OK, self.server.listed.now(self.server.editor.config, video))
        elif kind == "video" and not name:
            self.send_file(self._video(video))
        else:
            raise Unanswered(HTTPStatus.NOT_FOUND, "no such file of this video")

    def _linked(self, digest: str, name: str) -> Path:
        """Return a file that the page links to, or a frame of a folder that it links to.

        Raises:
            Unanswered: it links to no such file.
        """
        path = self.server.files.get(digest)
        if path is None or (name and not FRAME.fullmatch(name)):
            raise Unanswered(HTTPStatus.NOT_FOUND, "the page links to no such file")
        return path / name if name else path

    def _video(self, video: str) -> Path:
        """Return the file of a video, if it is still the one that was indexed.

        Raises:
            Unanswered: it is not.
        """
        try:
            return sources.find(self.server.editor.layout, Video(video, ""))
        except sources.Changed as error:
            raise Unanswered(HTTPStatus.NOT_FOUND, str(error)) from None

    def _post(self, path: str) -> None:
        """Write a correction as the command `correct` does."""
        if self.headers.get("Origin", f"http://{self.headers['Host']}") not in self._origins():
            raise Unanswered(HTTPStatus.FORBIDDEN, "another page asked for this")
        if path != "corrections":
            raise Unanswered(HTTPStatus.NOT_FOUND, "expected POST corrections")
        asked = self._body()
        video, author = asked.pop("hash", None), asked.pop("author", None)
        if not isinstance(video, str) or video not in self.server.listed:
            raise Unanswered(HTTPStatus.NOT_FOUND, "hash: expected that of a video of the manifest")
        if not isinstance(author, str | None):
            raise UserError("author: expected text")
        before, editor = asked.pop("before", None), self.server.editor
        with self.server.editing:
            self._unchanged(video, asked, before)
            Editor(editor.config, author or editor.author).correct(video, asked)
        self.send_json(HTTPStatus.OK, self.server.listed.now(editor.config, video))

    def _unchanged(self, video: str, asked: Iterable[str], before: object) -> None:
        """Look whether what is to be replaced is what the editor saw, if it says what that was.

        Raises:
            Unanswered: it is not.
        """
        if not isinstance(before, dict):
            return
        now = self.server.listed.now(self.server.editor.config, video)
        for kind in asked:
            if kind in before and before[kind] != now.get(kind):
                who = now["corrected"].get(kind, {}).get("author", "a build")
                text = (now[kind] or "nothing")[:LONGEST]
                why = f"{kind}: {who} made it since “{text}”; save again to replace that"
                raise Unanswered(HTTPStatus.CONFLICT, why)

    def _origins(self) -> Iterator[str]:
        return (f"http://{host}" for host in self.server.hosts)

    def _body(self) -> dict[str, Any]:
        """Read the JSON of a request.

        Raises:
            Unanswered: it is none, or too long.
        """
        if self.headers.get_content_type() != "application/json":
            raise Unanswered(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise Unanswered(HTTPStatus.LENGTH_REQUIRED, "expected Content-Length")
        if len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
            most = f"expected at most {MOST_BYTES:,} bytes"
            raise Unanswered(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, most)
        try:
            return parsed(self.rfile.read(int(length)))
        except ValueError as error:
            raise Unanswered(HTTPStatus.BAD_REQUEST, str(error)) from None
