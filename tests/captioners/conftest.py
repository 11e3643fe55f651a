"""Still pictures of the demo's clips, and a server that speaks OpenAI's chat protocol."""

import contextlib
import importlib.util
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import ffmpeg

from .recipes import KINDS

CLIPS = Path(__file__).parents[2] / "config/demo/clips"
SERVING = ("fastapi", "openai", "uvicorn")  # what transformers[serving] adds to ours
START_S = 120.0  # it takes 10 to 15 on two shared cores


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The first frame of each clip, by the clip's name."""
    folder, found = tmp_path_factory.mktemp("pictures"), {}
    for clip in ("dog", "title", "cup", "bunny"):
        found[clip] = folder / f"{clip}.jpg"
        ffmpeg.write(ffmpeg.read(CLIPS / f"{clip}.mp4").output(str(found[clip]), vframes=1))
    return found


@dataclass(frozen=True)
class Server:
    """A running server: requests go to `<url>/chat/completions` and name the model."""

    url: str
    model: str

    @property
    def folder(self) -> Path:
        """The checkpoint that it serves."""
        return Path(self.model)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`transformers serve` with a tiny Qwen2-VL, on the CPU and a free port."""
    for package in SERVING:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no package {package}: install transformers[serving]")
    (kind,) = (kind for kind in KINDS if kind.name == "qwen2_vl")
    folder = kind.make(tmp_path_factory.mktemp("served"))
    _say_no_control_tokens(folder)
    port = _free_port()
    log = folder.parent / "serve.log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    options = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*command, *options],
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield Server(f"http://127.0.0.1:{port}/v1", str(folder))
        finally:
            process.terminate()
            process.wait(30)


def _free_port() -> int:
    """A free port below those that Linux gives to whoever asks for any; it stays free meanwhile."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(given.read_text().split()[0]) if given.exists() else 32768
    while True:
        port = random.SystemRandom().randrange(first // 2, first)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def _say_no_control_tokens(folder: Path) -> None:
    """Only random weights write them inside an answer, and the server leaves them in."""
    from transformers import AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder)
    control = [n for n, token in tokenizer.added_tokens_decoder.items() if token.special]
    generation = GenerationConfig.from_pretrained(folder)
    generation.suppress_tokens = [n for n in control if n != tokenizer.eos_token_id]
    generation.save_pretrained(folder)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when the server answers; fail with its log if it ends or takes too long."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-4000:]}")
