"""Captions by a real server that speaks OpenAI's protocol, serving a tiny Qwen2-VL."""

import base64
import socket
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from spark_trainer import captioners
from spark_trainer.config import Captioning, ConfigError

from .conftest import Server
from .recipes import Decoding, qwen2_vl

PROMPT = "Describe the video."


def captioner(url: str, model: str, **keys: object) -> captioners.Captioner:
    """Our side of the wire."""
    settings = Captioning(
        captioner_backend="qwen2-vl",
        model_name=model,
        engine="server",
        server_url=url,
        prompt=PROMPT,
        max_new_tokens=12,
        **keys,
    )
    return captioners.load(settings)


def test_captions_are_those_of_the_model_itself(server: Server, pictures: dict[str, Path]) -> None:
    expected = []
    for picture in pictures.values():
        with Image.open(picture) as image:
            said = qwen2_vl(server.folder, [image.convert("RGB")], PROMPT, Decoding())
        expected.append(said.text)
    ours = captioner(server.url, server.model)
    assert ours.predict_batch([[picture] for picture in pictures.values()]) == expected
    assert len(set(expected)) > 1


def test_every_frame_reaches_the_server(server: Server, pictures: dict[str, Path]) -> None:
    ours = captioner(server.url, server.model)
    frames = list(pictures.values())
    whole = ours.predict_batch([frames])
    assert ours.predict_batch([frames[::-1]]) != whole
    assert ours.predict_batch([frames[:-1]]) != whole


def test_frames_are_shrunk_before_they_are_sent(server: Server, pictures: dict[str, Path]) -> None:
    ours = captioner(server.url, server.model, max_side_px=48)
    (picture,) = ours.prepare(captioners.Shown((pictures["dog"],), (0.0,)))["pictures"]
    data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
    with Image.open(BytesIO(data)) as image:
        assert max(image.size) == 48


def test_a_model_that_is_not_served_is_named(server: Server, pictures: dict[str, Path]) -> None:
    ours = captioner(server.url, "somebody/else")
    with pytest.raises(ConfigError, match=r"^caption\.server_url: http://127"):
        ours.predict(pictures["dog"])


def test_a_server_that_is_not_there_is_named(pictures: dict[str, Path]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(ConfigError, match=rf"^caption\.server_url: {url}: .*refused"):
            captioner(url, "any/model").predict(pictures["dog"])
