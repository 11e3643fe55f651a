"""A page served to this machine alone, on which the videos of a store play and are corrected.

The address holds a token; without it, under another host's name, or from another page's script
nothing is answered. A request names a video by its hash, never a path.

GET   <address>                      the page
GET   <address>video/<hash>          the video's file; also `sound/<hash>`, `frame/<hash>/<name>`
GET   <address>corrections/<hash>    what is said of a video now, as the page edits it
POST  <address>corrections           {hash, caption?, transcript?, flag?, exclude?, author?}
"""

import secrets
import sys
import traceback
from collections.abc import Callable, Iterator
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
from spark_trainer.report.served import Served
from spark_trainer.store.correct import Editor
from spark_trainer.store.listed import Listed
from spark_trainer.store.sending import Sender, Unanswered

LOOPBACK = "127.0.0.1"
MOST_BYTES = 1 << 22  # of a request
PATIENCE_S = 30.0  # with a browser that stops in the middle of a request
POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; media-src 'self' data: blob:; connect-src "
    "'self'; style-src 'unsafe-inline'; script-src 'nonce-{}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
Render = Callable[[Served], str]  # makes the page


class Server(ThreadingHTTPServer):
    """The server of a page over a store.

    Args:
        editor: the store, and who corrects it unless a request says who.
        render: makes the page.
        port: 0 takes any that is free.

    Raises:
        OSError: the port can't be had.
    """

    daemon_threads = True
    request_queue_size = 128  # a page asks for a dozen frames of each video at once

    def __init__(self, editor: Editor, render: Render, port: int) -> None:
        self.editor, self.render = editor, render
        self.listed = Listed(editor.layout)
        self.token = secrets.token_urlsafe(24)
        super().__init__((LOOPBACK, port), Handler)

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
            self._page()
        elif video not in self.server.listed:
            raise Unanswered(HTTPStatus.NOT_FOUND, "no such video in the manifest")
        elif kind == "corrections" and not name:
            self.send_json(HTTPStatus.OK, self.server.listed.now(self.server.editor.config, video))
        else:
            self.send_file(self._named(kind, video, name))

    def _named(self, kind: str, video: str, name: str) -> Path:
        """Return the file of a video that a request means.

        Raises:
            Unanswered: there is none.
        """
        listed = self.server.listed
        path: Path | None = None
        try:
            if kind == "video" and not name:
                path = sources.find(self.server.editor.layout, Video(video, ""))
            elif kind == "sound" and not name:
                path = listed.sound(video)
            elif kind == "frame":
                path = listed.frame(video, name)
        except sources.Changed as error:
            raise Unanswered(HTTPStatus.NOT_FOUND, str(error)) from None
        if path is None:
            raise Unanswered(HTTPStatus.NOT_FOUND, "no such file of this video")
        return path

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        page = self.server.render(Served(nonce, self.server.editor.author))
        content = page.encode("utf-8", "backslashreplace")
        policy = {"Content-Security-Policy": POLICY.format(nonce)}
        self.send_content(HTTPStatus.OK, "text/html; charset=utf-8", content, policy)

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
        editor = self.server.editor
        Editor(editor.config, author or editor.author).correct(video, asked)
        self.send_json(HTTPStatus.OK, self.server.listed.now(editor.config, video))

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
