"""Captions from a server that speaks OpenAI's protocol: vLLM, SGLang, `transformers serve`.

The server forms batches and holds the model and its GPUs; here frames are read and requests sent.
"""

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spark_trainer import captioners
from spark_trainer.captioners import Captioner, Prepared, Shown
from spark_trainer.config import Captioning, ConfigError

KEY_VARIABLE = "OPENAI_API_KEY"
TIMEOUT_S = 600.0
JPEG_QUALITY = 95


class Server(Captioner):
    """A running server that serves the model under its name; its key is in OPENAI_API_KEY."""

    def __init__(self, settings: Captioning) -> None:
        from huggingface_hub import InferenceClient

        # Without a key of its own the client would send the user's token for the hub.
        key = os.environ.get(KEY_VARIABLE) or "none"
        self._client = InferenceClient(
            base_url=settings.server_url.rstrip("/"), api_key=key, timeout=TIMEOUT_S
        )
        self._settings = settings
        self._model = captioners.model_name(settings)
        self._prompt = captioners.prompt(settings)

    @property
    def facts(self) -> dict[str, Any]:
        """Who answered; the server alone knows the weights' commit."""
        return {"server": self._settings.server_url}

    def prepare(self, shown: Shown) -> Prepared:
        """See `Captioner`; every frame in the request itself, the file as it is unless shrunk."""
        max_side_px, pictures = self._settings.max_side_px, []
        for frame, image in zip(shown.frames, shown.images(max_side_px), strict=True):
            buffer = io.BytesIO(frame.read_bytes())
            if max_side_px:
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=JPEG_QUALITY)
            code = base64.b64encode(buffer.getvalue()).decode()
            url = {"url": f"data:image/jpeg;base64,{code}"}
            pictures.append({"type": "image_url", "image_url": url})
        return {"pictures": pictures, "length": len(pictures)}

    def caption(self, batch: Sequence[Prepared]) -> list[str]:
        """See `Captioner`; all requests at once, the server forms its own batches.

        Raises:
            ConfigError: nobody answers, or the server refuses a request; the message says why.
        """
        with ThreadPoolExecutor(len(batch)) as pool:
            return list(pool.map(self._ask, batch))

    def _ask(self, one: Prepared) -> str:
        from huggingface_hub import errors

        settings, question = self._settings, {"type": "text", "text": self._prompt}
        more: dict[str, Any] = {}
        if settings.repetition_penalty is not None:
            more["repetition_penalty"] = settings.repetition_penalty
        try:
            answer = self._client.chat_completion(
                [{"role": "user", "content": [*one["pictures"], question]}],
                model=self._model,
                max_tokens=settings.max_new_tokens,
                temperature=0,
                extra_body=more,
            )
        except errors.HTTPError as error:  # type: ignore[attr-defined]
            raise ConfigError(f"caption.server_url: {settings.server_url}: {error}") from error
        return str(answer.choices[0].message.content or "").strip()
