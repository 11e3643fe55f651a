"""Captions from a server with OpenAI's protocol: vLLM, SGLang, `transformers serve`.

The server forms batches and holds the model and its GPUs; here frames are read and requests sent,
as many at once as `caption.batch_size` says.
Where it refuses a request, that video gets no caption; where it is busy or doesn't answer, the
request is tried again.
"""

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.captioners import backends
from spark_trainer.captioners.base import Captioner, Prepared, Shown, Trouble
from spark_trainer.config import Captioning, ConfigError
from spark_trainer.errors import MachineError
from spark_trainer.families.kinds import prompts
from spark_trainer.system.chat_server import ChatServer, RequestRefused, Unreached, Unserved

if TYPE_CHECKING:
    from PIL.Image import Image

JPEG_QUALITY = 95
IN_A_ROW = 8  # requests without an answer, after which the server counts as gone


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
        self._server = ChatServer("caption.server", settings.server_url, settings.server_timeout_s)
        self._model = backends.model_name(settings)
        self._prompt = backends.prompt(settings)
        self._unanswered = 0  # in a row

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
        """Send a request and return its answer.

        Raises:
            ConfigError: as `caption`.
            MachineError: as `caption`.
        """
        try:
            said: str | Trouble = self._server.ask(self._question(one))
        except Unserved as error:
            raise ConfigError(str(error)) from None
        except RequestRefused as error:
            said = Trouble(str(error), details=error.details)
        except MachineError as error:
            self._unanswered += 1
            if isinstance(error, Unreached) or self._unanswered >= IN_A_ROW:
                raise
            return Trouble(str(error), machine=True)
        self._unanswered = 0
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
