"""Captions from a server with OpenAI's protocol: vLLM, SGLang, `transformers serve`.

The server forms batches and holds the model and its GPUs; here frames are read and requests sent,
as many at once as `caption.batch_size` says.
Where it refuses a request, that video gets no caption; where it is busy or doesn't answer, the
request is tried again.
"""

import base64
import functools
import io
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from spark_trainer.captioners import backends
from spark_trainer.captioners.base import Captioner, Prepared, Shown, Trouble
from spark_trainer.config import Captioning, ConfigError
from spark_trainer.data import models
from spark_trainer.errors import LONGEST_REASON, MachineError
from spark_trainer.families.kinds import prompts

if TYPE_CHECKING:
    from PIL.Image import Image

KEY_VARIABLE = "OPENAI_API_KEY"
JPEG_QUALITY = 95
PAUSES_S = (1.0, 4.0, 16.0)  # between tries of one request
LONGEST_ANSWER = 1 << 24  # bytes: a hundred times the default of caption.max_characters
IN_A_ROW = 8  # requests without an answer, after which the server counts as gone
OF_SETTINGS = (401, 403, 404)  # the key, the address, the model's name


class _NoServer(Trouble):
    """No server accepts the connection."""


class Server(Captioner):
    """A running server that serves the model under its name; its key is in OPENAI_API_KEY.

    Raises:
        ConfigError: its address is not a URL.
    """

    SIDE_BY_SIDE = True

    def __init__(self, settings: Captioning) -> None:
        if not settings.server_url.startswith(("http://", "https://")):
            raise ConfigError(
                f"caption.server_url: expected http://… or https://… (got {settings.server_url!r})"
            )
        self._settings = settings
        self._model = backends.model_name(settings)
        self._prompt = backends.prompt(settings)
        self._unanswered = 0  # in a row

    @functools.cached_property
    def _client(self) -> httpx2.Client:
        """Return a client of ours: the hub's refuses every address under HF_HUB_OFFLINE."""
        return httpx2.Client(follow_redirects=True)

    @property
    def facts(self) -> dict[str, Any]:
        """Return the server's address; only the server knows the weights' commit."""
        facts = {"server": self._settings.server_url}
        return facts | ({"server_input": "video"} if self._sends_videos else {})

    @property
    def _sends_videos(self) -> bool:
        return self._settings.server_input == "video"

    def prepare(self, shown: Shown) -> Prepared:
        """Put every frame into the request, as its file is unless changed; see `Captioner`."""
        max_side_px = self._settings.max_side_px
        images = shown.images(max_side_px)
        as_video = self._sends_videos and len(images) > 1
        sent = prompts.of_one_size(images) if as_video else images
        codes = [
            _code(frame, image, max_side_px is None and image is read)
            for frame, image, read in zip(shown.frames, sent, images, strict=True)
        ]
        if as_video:
            return _video(codes, shown.times) | {"length": len(images)}
        pictures = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{code}"}}
            for code in codes
        ]
        return {"pictures": pictures, "length": len(pictures)}

    def caption(self, batch: Sequence[Prepared]) -> list[str | Trouble]:
        """Send all requests at once, as the server forms its own batches; see `Captioner`.

        Raises:
            ConfigError: the server doesn't know the model, the address or the key.
            MachineError: the server doesn't answer.
        """
        with ThreadPoolExecutor(len(batch)) as pool:
            return list(pool.map(self._ask, batch))

    def _ask(self, one: Prepared) -> str | Trouble:
        """Send a request, again while the server is busy or missing, and return its answer.

        Raises:
            ConfigError: as `caption`.
            MachineError: as `caption`.
        """
        until, pauses_s = time.monotonic() + self._settings.server_timeout_s, iter(PAUSES_S)
        while True:
            said = self._answer(self._question(one))
            if not isinstance(said, Trouble) or not said.machine:
                self._unanswered = 0
                return said
            pause_s = next(pauses_s, None)
            if pause_s is None or time.monotonic() + pause_s > until:
                break
            time.sleep(pause_s)
        self._unanswered += 1
        if isinstance(said, _NoServer) or self._unanswered >= IN_A_ROW:
            raise MachineError(said.why)
        return said

    def _question(self, one: Prepared) -> dict[str, Any]:
        settings, question = self._settings, {"type": "text", "text": self._prompt}
        options: dict[str, Any] = one.get("options", {})
        asked: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": [*one["pictures"], question]}],
            "max_tokens": settings.max_new_tokens,
            "temperature": 0,
        }
        if settings.repetition_penalty is not None:
            asked["repetition_penalty"] = settings.repetition_penalty
        return asked | options

    def _answer(self, question: dict[str, Any]) -> str | Trouble:
        """Send a request once and return the answer.

        Raises:
            ConfigError: the server doesn't know the model, the address or the key.
        """
        where = f"caption.server_url: {self._settings.server_url}"
        url = f"{self._settings.server_url.rstrip('/')}/chat/completions"
        key = os.environ.get(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limit_s = self._settings.server_timeout_s
        try:
            with self._client.stream(
                "POST", url, json=question, headers=headers, timeout=limit_s
            ) as response:
                status, body = response.status_code, _body(response, limit_s)
        except httpx2.HTTPError as error:
            kind = _NoServer if isinstance(error, httpx2.ConnectError) else Trouble
            return kind(f"{where}: {error or type(error).__name__}", machine=True)
        except TimeoutError as error:
            return Trouble(f"{where}: {error}", machine=True)
        if status in OF_SETTINGS:
            raise ConfigError(f"{where}: {status} {_words(body)}")
        if status in models.BUSY or status >= 500:
            return Trouble(f"{where}: {status} {_words(body)}", machine=True)
        if status != 200:
            said = f"{status} {_words(body)}"
            return Trouble(f"the server refused the request: {said}", details=f"{where}: {said}")
        return _text(body)


def _code(frame: Path, image: "Image", unchanged: bool) -> str:
    """Return a frame's JPEG file in base64, or its picture anew where that was changed."""
    if unchanged:
        return base64.b64encode(frame.read_bytes()).decode()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def _video(codes: Sequence[str], times: Sequence[float]) -> Prepared:
    """Return frames as a video, in the form that vLLM and those who follow it take.

    Its `media_io_kwargs` say how far apart the frames are, and that none is to be left out (docs of
    vLLM, "Multimodal Inputs", "Pre-extracted Frame Sequences").
    """
    gaps, length_s = len(times) - 1, times[-1] - times[0]
    frames = {"num_frames": -1, "fps": gaps / length_s if length_s > 0 else 1.0}
    url = {"url": f"data:video/jpeg;base64,{','.join(codes)}"}
    return {
        "pictures": [{"type": "video_url", "video_url": url}],
        "options": {"media_io_kwargs": {"video": frames}},
    }


def _body(response: Any, limit_s: float) -> bytes:
    """Read a server's answer, up to a length and within a time.

    Raises:
        TimeoutError: it takes longer.
    """
    until, body = time.monotonic() + limit_s, bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > LONGEST_ANSWER:
            break
        if time.monotonic() > until:
            raise TimeoutError(f"no answer within caption.server_timeout_s = {limit_s:g}")
    return bytes(body)


def _words(body: bytes) -> str:
    """Return the beginning of a server's answer as one line."""
    return " ".join(body[: 4 * LONGEST_REASON].decode(errors="replace").split())[:LONGEST_REASON]


def _text(body: bytes) -> str | Trouble:
    """Return the caption in a server's answer."""
    if len(body) > LONGEST_ANSWER:
        return Trouble(f"the server's answer is longer than {LONGEST_ANSWER:,} bytes")
    try:
        said = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return Trouble(f"the server's answer holds no text: {_words(body)}")
    if said is None:
        return ""
    if not isinstance(said, str):
        return Trouble(f"the server's answer holds no text: {_words(body)}")
    return said.strip()
