"""The server of the tests speaks the protocol that captioning services speak."""

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image

from .conftest import Server
from .recipes import Decoding, qwen2_vl

PROMPT = "Describe the video."


def ask(server: Server, pictures: list[Path]) -> dict[str, Any]:
    shown = []
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        url = f"data:image/jpeg;base64,{data}"
        shown.append({"type": "image_url", "image_url": {"url": url}})
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": [*shown, {"type": "text", "text": PROMPT}]}],
        "max_tokens": 12,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{server.url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def test_an_image_is_captioned_as_by_the_model_itself(
    server: Server, pictures: dict[str, Path]
) -> None:
    for picture in pictures.values():
        with Image.open(picture) as image:
            said = qwen2_vl(server.folder, [image.convert("RGB")], PROMPT, Decoding())
        answer = ask(server, [picture])
        assert answer["choices"][0]["message"]["content"].strip() == said.text
        assert answer["usage"]["completion_tokens"] == len(said.ids)


def test_several_images_in_one_message_are_all_seen(
    server: Server, pictures: dict[str, Path]
) -> None:
    frames = list(pictures.values())
    alone = ask(server, frames[:1])["usage"]["prompt_tokens"]
    together = ask(server, frames)
    assert together["usage"]["prompt_tokens"] > alone
    said = together["choices"][0]["message"]["content"]
    assert ask(server, frames[::-1])["choices"][0]["message"]["content"] != said
