"""Captions by a real server that speaks OpenAI's protocol, serving a tiny Qwen2-VL."""

import base64
import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spark_trainer import captioners
from spark_trainer.captioners import Trouble, engine
from spark_trainer.captioners import server as module
from spark_trainer.config import Captioning, ConfigError
from spark_trainer.errors import MachineError
from spark_trainer.system import chat_server

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


def test_captions_are_those_of_the_model_itself(
    server: Server, pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the hub must not be asked too: the server is no hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
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
    shown = captioners.Shown((pictures["dog"],), (0.0,))
    with pytest.raises(ConfigError, match=r"^caption\..*somebody/else"):
        list(engine.run(ours, [shown], 1, 0))


def test_a_server_that_is_not_there_is_the_machines_trouble(
    pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_server, "PAUSES_S", (0.01,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(MachineError, match=rf"^caption\.server_url: {url}: .*refused"):
            captioner(url, "any/model").predict(pictures["dog"])


Answer = tuple[int, bytes]


class Answers(http.server.BaseHTTPRequestHandler):
    """Sends what its server answers to a request."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, body = self.server.answer(asked)  # type: ignore[attr-defined]
        self.send_response(status)
        if body != b"slow":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            if body == b"slow":  # its four bytes, and no end until nobody listens
                for _ in range(300):
                    self.wfile.write(b"x")
                    time.sleep(0.2)
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """Start a server that gives these answers, one for each request, the last one for ever.

    Or what is called with each request. Returns its address.
    """
    running = []

    def start(*answers: Answer, answer: Callable[[Any], Answer] | None = None) -> str:
        left = list(answers)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        server.answer = answer or (  # type: ignore[attr-defined]
            lambda _: left.pop(0) if len(left) > 1 else left[0]
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def said(content: object) -> Answer:
    return 200, json.dumps({"choices": [{"message": {"content": content}}]}).encode()


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([said(" a dog ")], "a dog"),
        ([(503, b"loading"), (429, b"slow down"), said("a dog")], "a dog"),
        ([said(None)], ""),
        (
            [(200, b'{"choices": []}')],
            Trouble('the server\'s answer holds no text: {"choices": []}'),
        ),
        ([(200, b"<html>")], Trouble("the server's answer holds no text: <html>")),
        (
            [(400, b"image too small")],
            Trouble("the server refused the request: 400 image too small"),
        ),
        ([(422, b"no")], Trouble("the server refused the request: 422 no")),
        ([(200, b"x" * (1 << 25))], Trouble("the server's answer is longer than 16,777,216 bytes")),
    ],
)
def test_an_answer_is_the_videos_own_matter(
    answers: list[tuple[int, bytes]],
    expected: str | Trouble,
    answering: Callable[..., str],
    pictures: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chat_server, "PAUSES_S", (0.01, 0.01))
    ours = captioner(answering(*answers), "any/model")
    shown = captioners.Shown((pictures["dog"],), (0.0,))
    (text,) = ours.caption([ours.prepare(shown)])
    if isinstance(text, Trouble):
        text = replace(text, details="")
    assert text == expected


@pytest.mark.parametrize("status", [401, 404])
def test_a_key_or_name_that_is_not_known_stops_at_once(
    status: int, answering: Callable[..., str], pictures: dict[str, Path]
) -> None:
    ours = captioner(answering((status, b"who are you"), said("a dog")), "any/model")
    with pytest.raises(ConfigError, match=f"{status} who are you"):
        ours.predict(pictures["dog"])


def test_a_server_that_stays_busy_costs_some_tries_then_all(
    answering: Callable[..., str], pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_server, "PAUSES_S", (0.01,))
    ours = captioner(answering((500, b"out of memory")), "any/model")
    one = ours.prepare(captioners.Shown((pictures["dog"],), (0.0,)))
    (failed,) = ours.caption([one])
    assert isinstance(failed, Trouble)
    assert failed.machine
    assert failed.why.endswith("500 out of memory")
    with pytest.raises(MachineError, match="500 out of memory"):
        ours.caption([one] * module.IN_A_ROW)


def test_a_server_that_is_busy_when_it_is_tried_with_grey_is_no_trouble_of_the_settings(
    answering: Callable[..., str], pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_server, "PAUSES_S", (0.01,))
    ours = captioner(answering((400, b"image too small"), (503, b"loading")), "any/model")
    shown = captioners.Shown((pictures["dog"],), (0.0,))
    with pytest.raises(MachineError, match="503 loading"):
        list(engine.run(ours, [shown], 1, 0))


@pytest.mark.parametrize("server_input", ["images", "video"])
@pytest.mark.parametrize("answer", [(200, b"<html>Log in</html>"), (400, b"no pictures here")])
def test_a_server_that_has_no_caption_for_anything_costs_no_video_its_own(
    answer: Answer, server_input: str, answering: Callable[..., str], shades: list[captioners.Shown]
) -> None:
    """A page to log in at stands before it, or its model takes no pictures or no videos."""
    ours = captioner(answering(answer), "any/model", server_input=server_input)
    made = list[tuple[int, str | Trouble, float]]()
    with pytest.raises(ConfigError, match="not even a grey picture gets a caption: the server"):
        made.extend(engine.run(ours, shades, 3, 0))
    assert not made


@pytest.mark.parametrize("url", ["http://", "http://[::1", "https://host:port/v1"])
def test_an_address_that_is_none_is_the_settings_trouble(
    url: str, pictures: dict[str, Path]
) -> None:
    with pytest.raises(ConfigError, match=r"^caption\.server_url: http"):
        captioner(url, "any/model").predict(pictures["dog"])


def test_an_answer_has_a_time_limit(
    answering: Callable[..., str], pictures: dict[str, Path]
) -> None:
    ours = captioner(answering((200, b"slow")), "any/model", server_timeout_s=0.5)
    one = ours.prepare(captioners.Shown((pictures["dog"],), (0.0,)))
    began = time.monotonic()
    (failed,) = ours.caption([one])
    assert isinstance(failed, Trouble)
    assert failed.machine
    assert "caption.server_timeout_s = 0.5" in failed.why
    assert time.monotonic() - began < 30


@pytest.fixture
def shades(tmp_path: Path) -> list[captioners.Shown]:
    """Twelve videos of two frames, half a second apart; the darkness of the first is its number."""
    shown = []
    for number in range(12):
        frames = tuple(tmp_path / f"{number}_{frame}.jpg" for frame in range(2))
        for frame in frames:
            Image.new("L", (32, 32), 20 * number).save(frame)
        shown.append(captioners.Shown(frames, (0.25, 0.75)))
    return shown


def shade(asked: Any) -> int:
    """The number of the video that a request shows; -1 for a grey picture."""
    [(_, seen)] = [one for one in asked["messages"][0]["content"][0].items() if one[0] != "type"]
    code = seen["url"].partition(",")[2].partition(",")[0]
    with Image.open(BytesIO(base64.b64decode(code))) as image:
        number, rest = divmod(int(image.convert("L").getpixel((5, 5))), 20)
        return number if rest < 3 and image.size == (32, 32) else -1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_answer_makes_room_for_the_next_request(
    num_workers: int, answering: Callable[..., str], shades: list[captioners.Shown]
) -> None:
    """The first is answered when all others are; one that is refused costs no other its caption."""
    lock, others, at_once, most = threading.Lock(), threading.Event(), [0], [0]
    answered: list[int] = []

    def answer(asked: Any) -> Answer:
        number = shade(asked)
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        assert number != 0 or others.wait(20)
        time.sleep(0.02)
        with lock:
            at_once[0] -= 1
            answered.append(number)
            if {*range(1, len(shades))} <= {*answered}:
                others.set()
        return (422, b"not this one") if number == 5 else said(f"shade {number}")

    ours = captioner(answering(answer=answer), "any/model")
    made = list(engine.run(ours, shades, 3, num_workers))
    texts = {number: text for number, text, _ in made}
    refused = texts.pop(5)
    assert isinstance(refused, Trouble)
    assert refused.why == "the server refused the request: 422 not this one"
    assert texts == {n: f"shade {n}" for n in range(len(shades)) if n != 5}
    # Two more may have been answered and not yet be heard.
    assert [number for number, _, _ in made].index(0) >= len(shades) - 3
    assert most[0] in (3, 4)  # and the grey picture that is asked about beside the refused one


def test_what_was_begun_is_finished_before_the_job_ends(
    answering: Callable[..., str], shades: list[captioners.Shown]
) -> None:
    failed = threading.Event()

    def answer(asked: Any) -> Answer:
        if shade(asked) == 1:
            failed.set()
            return 404, b"who are you"
        assert failed.wait(20)
        return said("a shade")

    ours = captioner(answering(answer=answer), "any/model")
    running, made = engine.run(ours, shades, 3, 0), list[tuple[int, str | Trouble, float]]()
    with pytest.raises(ConfigError, match="404 who are you"):
        made.extend(running)
    assert {(0, "a shade"), (2, "a shade")} <= {(number, text) for number, text, _ in made}


def test_frames_go_as_a_video_where_that_is_asked_for(
    answering: Callable[..., str], shades: list[captioners.Shown]
) -> None:
    """Of one size, with the time between them; a single frame stays an image."""
    requests: list[Any] = []

    def answer(asked: Any) -> Answer:
        requests.append(asked)
        return said("a film")

    ours = captioner(answering(answer=answer), "any/model", server_input="video")
    Image.new("L", (16, 32), 255).save(shades[3].frames[1])
    assert ours.caption([ours.prepare(shades[3])]) == ["a film"]
    [asked] = requests
    seen, question = asked["messages"][0]["content"]
    assert question == {"type": "text", "text": PROMPT}
    kind, _, codes = seen["video_url"]["url"].partition(",")
    assert (seen["type"], kind) == ("video_url", "data:video/jpeg;base64")
    first, second = [base64.b64decode(code) for code in codes.split(",")]
    assert first == shades[3].frames[0].read_bytes()
    with Image.open(BytesIO(second)) as image:
        assert image.size == (32, 32)
    assert asked["media_io_kwargs"] == {"video": {"num_frames": -1, "fps": 2.0}}
    assert ours.facts["server_input"] == "video"
    alone = captioners.Shown(shades[3].frames[:1], (0.25,))
    assert ours.prepare(alone)["pictures"][0]["type"] == "image_url"


def test_captions_made_before_stay_unless_videos_are_sent() -> None:
    settings = {"captioner_backend": "qwen2-vl", "engine": "server"}
    assert "server_input" not in Captioning(**settings).results()
    assert Captioning(**settings, server_input="video").results()["server_input"] == "video"
    ours = Captioning(captioner_backend="qwen2-vl", server_input="video")
    assert "server_input" not in ours.results()
