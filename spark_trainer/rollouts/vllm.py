"""The requests that a vLLM server takes, as its release 0.33.0 publishes them.

Its files, below vllm/entrypoints: openai/chat_completion/protocol.py, openai/models/serving.py,
serve/lora/api_router.py, serve/dev/rpc/api_router.py, serve/dev/cache/api_router.py,
rl/online/api_router.py.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from spark_trainer.config.vllm import Vllm
from spark_trainer.errors import MachineError, UserError
from spark_trainer.system.chat_server import ChatServer, RequestRefused, Unserved

KEY = "train.rft.vllm"
LATER_PAUSE_S = 30.0  # between tries after the first ones, as long as server_timeout_s allows
FAILED = 500  # its status where it can't take an adapter, for example one of too high a rank
WITH_ADAPTERS = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"
WITH_WEIGHTS = "VLLM_SERVER_DEV_MODE=1"

_Read = TypeVar("_Read")


class RolloutError(UserError):
    """What a server says can't be learnt from; the message says why."""


@dataclass(frozen=True)
class ServedModel:
    """A model that a server knows by a name.

    Attributes:
        name: by which it is asked.
        path: where its weights come from.
        is_adapter: whether it is another one with an adapter.
    """

    name: str
    path: str
    is_adapter: bool


@dataclass(frozen=True)
class Server:
    """A running vLLM server.

    All raise `MachineError` where it doesn't answer, or stays busy, for `server_timeout_s`, and
    `UserError` where the address, the key, or how it was started is to blame.
    """

    settings: Vllm

    def served(self) -> list[ServedModel]:
        """Return the models that it knows."""
        return self._answer("models", None, _served)

    def answer(self, request: dict[str, Any], read: Callable[[dict[str, Any]], _Read]) -> _Read:
        """Return what is read of the answer in a chat.

        Raises:
            RolloutError: it refuses the request.
        """
        return self._answer("chat/completions", request, lambda body: read(_json(body)))

    def check_takes(self, adapters: bool) -> None:
        """Look whether it takes adapters, or else weights.

        Raises:
            RolloutError: it was started without what lets it.
        """
        if not adapters:
            self.version()
            return
        with contextlib.suppress(RequestRefused):  # a name and a folder are missing
            self.load_adapter("", Path())

    def load_adapter(self, name: str, folder: Path) -> None:
        """Let it know the adapter in a folder by a name.

        Raises:
            RolloutError: it takes none, or doesn't see the folder.
            RequestRefused: it refuses this one, which another process may have loaded.
        """
        request = {"lora_name": name, "lora_path": str(folder) if name else ""}
        try:
            self._server.answer("load_lora_adapter", request, bytes, refusals=(FAILED,))
        except Unserved as error:
            seen = f", that sees {folder}" if name else ""
            raise RolloutError(f"{error}; expected a server with {WITH_ADAPTERS}{seen}") from None

    def unload_adapter(self, name: str) -> None:
        """Let it forget an adapter, which another process may have done."""
        with contextlib.suppress(RequestRefused):
            self._server.answer("unload_lora_adapter", {"lora_name": name}, bytes, refusals=(404,))

    def version(self) -> str:
        """Return what its weights are called.

        Raises:
            RolloutError: it doesn't say.
        """
        return self._as_developer("/weight_info", None, _version)

    def load_weights(self, folder: Path, version: str) -> None:
        """Let it read all weights anew, and forget what it made by others.

        Args:
            folder: of a checkpoint, which it sees under the same path.
            version: what they are called from now on.

        Raises:
            RolloutError: it doesn't.
        """
        told = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        self._as_developer("/collective_rpc", told, bytes)
        self._as_developer("/reset_prefix_cache", {}, _forgotten)
        for cache in ("mm", "encoder"):
            self._as_developer(f"/reset_{cache}_cache", {}, bytes)
        self._as_developer("/update_weight_version", {"new_version": version}, bytes)

    @cached_property
    def _server(self) -> ChatServer:
        url, timeout_s = self.settings.server_url, self.settings.server_timeout_s
        assert url is not None
        return ChatServer(f"{KEY}.server", url, timeout_s, LATER_PAUSE_S)

    def _answer(
        self, path: str, request: dict[str, Any] | None, read: Callable[[bytes], _Read]
    ) -> _Read:
        try:
            return self._server.answer(path, request, read)
        except RequestRefused as error:
            raise RolloutError(error.details or str(error)) from None

    def _as_developer(
        self, path: str, request: dict[str, Any] | None, read: Callable[[bytes], _Read]
    ) -> _Read:
        """Return what is read of the answer to what only a server for developers takes."""
        try:
            return self._answer(path, request, read)
        except Unserved as error:
            raise RolloutError(f"{error}; expected a server with {WITH_WEIGHTS}") from None


def _json(body: bytes) -> dict[str, Any]:
    """Return an answer as an object.

    Raises:
        RolloutError: it is none.
    """
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RolloutError(f"{KEY}.server_url: expected vLLM, which answers in JSON")
    return found


def _version(body: bytes) -> str:
    return str(_json(body).get("weight_version"))


def _forgotten(body: bytes) -> None:
    """Look whether a cache was emptied, which it isn't while an answer still needs it.

    Raises:
        MachineError: it was not.
    """
    if _json(body).get("success") is False:
        raise MachineError(f"{KEY}.server_url: the server is still at work by earlier weights")


def _served(body: bytes) -> list[ServedModel]:
    try:
        return [
            ServedModel(str(one["id"]), str(one.get("root")), one.get("parent") is not None)
            for one in _json(body)["data"]
        ]
    except (LookupError, TypeError, AttributeError):
        raise RolloutError(f"{KEY}.server_url: expected vLLM, which lists its models") from None
