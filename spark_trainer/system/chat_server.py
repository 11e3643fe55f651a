"""A server with OpenAI's protocol: a request, its answer, and whose trouble it is without one."""

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from spark_trainer.errors import BUSY, LONGEST_REASON, MachineError, Refused, UserError
from spark_trainer.system import log

if TYPE_CHECKING:
    import httpx2

KEY_VARIABLE = "OPENAI_API_KEY"
PAUSES_S = (1.0, 4.0, 16.0)  # between tries of one request
LONGEST_ANSWER = 1 << 24  # bytes: a hundred times the default of caption.max_characters
OF_SETTINGS = (401, 403, 404)  # the key, the address, the model's name

_Read = TypeVar("_Read")


class Unserved(UserError):
    """The server doesn't know the model, the address or the key."""


class Unreached(MachineError):
    """No server accepts the connection."""


class RequestRefused(Refused):
    """The server refuses a request, or its answer holds no text; `details` are for the log."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class ChatServer:
    """A server that chats with a model that it holds; its key is in OPENAI_API_KEY.

    Attributes:
        settings: what its keys in the configuration begin with: `…_url`, `…_timeout_s`.
        url: its address, up to `/v1`.
        timeout_s: longest wait for an answer.
        later_pause_s: between tries after the first ones, as long as that allows; None: no more.
    """

    settings: str
    url: str
    timeout_s: float
    later_pause_s: float | None = None

    @cached_property
    def _client(self) -> "httpx2.Client":
        """Return a client of ours: the hub's refuses every address under HF_HUB_OFFLINE."""
        import httpx2

        return httpx2.Client(follow_redirects=True)

    def ask(self, request: dict[str, Any]) -> str:
        """Send a request, again while the server is busy or missing, and return the answer.

        Raises:
            Unserved: the settings are to blame.
            Unreached: no server is there.
            MachineError: it doesn't answer, or stays busy.
            RequestRefused: it refuses this request.
        """
        return self.answer("chat/completions", request, lambda body: _text(body, self._where))

    def answer(
        self,
        path: str,
        request: dict[str, Any] | None,
        read: Callable[[bytes], _Read],
        refusals: Collection[int] = (),
    ) -> _Read:
        """Send a request as `ask` does, and return what is read of its answer.

        Args:
            path: behind the address; one that begins with `/` is the server's own.
            request: what is posted; None only gets what is there.
            read: makes something of the answer; what it raises is raised, after further tries
                where that is a MachineError.
            refusals: statuses by which it refuses this request, whatever they mean elsewhere.

        Raises:
            Unserved: as `ask`.
            Unreached: as `ask`.
            MachineError: as `ask`.
            RequestRefused: as `ask`.
        """
        until = time.monotonic() + self.timeout_s
        later_s = () if self.later_pause_s is None else itertools.repeat(self.later_pause_s)
        pauses_s = itertools.chain(PAUSES_S, later_s)
        while True:
            try:
                return read(self._answer(path, request, refusals))
            except MachineError as error:
                pause_s = next(pauses_s, None)
                if pause_s is None or time.monotonic() + pause_s > until:
                    raise
                self._tell(str(error))
            time.sleep(pause_s)

    @property
    def _where(self) -> str:
        return f"{self.settings}_url: {self.url}"

    @cached_property
    def _told(self) -> set[str]:
        """Return what was said of the server: many requests wait at once."""
        return set()

    def _tell(self, trouble: str) -> None:
        if trouble not in self._told:
            self._told.add(trouble)
            log.logger.warning("%s; asked again for %g s", trouble, self.timeout_s)

    def _answer(
        self, path: str, request: dict[str, Any] | None, refusals: Collection[int]
    ) -> bytes:
        """Send a request once; raises as `ask`."""
        where = self._where
        status, body = self._sent(path, request, where)
        if status not in refusals:
            if status in OF_SETTINGS:
                raise Unserved(f"{where}: {status} {_words(body)}")
            if status in BUSY or status >= 500:
                raise MachineError(f"{where}: {status} {_words(body)}")
        if status != 200:
            said = f"{status} {_words(body)}"
            raise RequestRefused(f"the server refused the request: {said}", f"{where}: {said}")
        return body

    def _sent(self, path: str, request: dict[str, Any] | None, where: str) -> tuple[int, bytes]:
        """Return the status of a request, and what came back."""
        import httpx2

        address, key = self.url.rstrip("/"), os.environ.get(KEY_VARIABLE)
        url = address.removesuffix("/v1") + path if path[0] == "/" else f"{address}/{path}"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        verb = "GET" if request is None else "POST"
        try:
            with self._client.stream(
                verb, url, json=request, headers=headers, timeout=self.timeout_s
            ) as response:
                return response.status_code, self._body(response)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise Unserved(f"{where}: {error}") from None
        except httpx2.HTTPError as error:
            kind = Unreached if isinstance(error, httpx2.ConnectError) else MachineError
            raise kind(f"{where}: {error or type(error).__name__}") from None
        except TimeoutError as error:
            raise MachineError(f"{where}: {error}") from None

    def _body(self, response: Any) -> bytes:
        """Read a server's answer, up to a length and within a time.

        Raises:
            TimeoutError: it takes longer.
        """
        until, body = time.monotonic() + self.timeout_s, bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > LONGEST_ANSWER:
                break
            if time.monotonic() > until:
                limit = f"{self.settings}_timeout_s = {self.timeout_s:g}"
                raise TimeoutError(f"no answer within {limit}")
        return bytes(body)


def _words(body: bytes) -> str:
    """Return the beginning of a server's answer as one line."""
    return " ".join(body[: 4 * LONGEST_REASON].decode(errors="replace").split())[:LONGEST_REASON]


def _text(body: bytes, where: str) -> str:
    """Return the text in a server's answer; raises RequestRefused where there is none."""
    reason = f"the server's answer is longer than {LONGEST_ANSWER:,} bytes"
    if len(body) <= LONGEST_ANSWER:
        reason = f"the server's answer holds no text: {_words(body)}"
        with contextlib.suppress(ValueError, LookupError, TypeError):
            said = json.loads(body)["choices"][0]["message"]["content"]
            if said is None or isinstance(said, str):
                return (said or "").strip()
    raise RequestRefused(reason, f"{where}: {reason}")
