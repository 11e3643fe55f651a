"""What several test folders share: the repository, the shipped clips, a count of graphs."""

import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from spark_trainer.system.log import LOG_VARIABLE

ROOT = Path(__file__).parent.parent
TERMINAL = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")

# Neither the clock of a busy machine nor chance may decide how a test ends.
settings.register_profile(
    "here", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("here")

# Tiny models lose more to the threads' meetings than they gain; torch reads it when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that a test starts with more threads than that let them sleep where they would spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, because most tests wait for a process that they started."""
    return 1 + (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _own_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test the environment of a command that nobody else has begun.

    Nor does it take a terminal from that of all tests, by which tables and helps are laid out.
    """
    for name in (LOG_VARIABLE, *TERMINAL):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _own_chance() -> None:
    """Let each test draw the same numbers, whatever was tested before it in this process."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def clips() -> Path:
    """The clips of the demo."""
    return ROOT / "config/demo/clips"


@pytest.fixture
def two_clips(clips: Path, tmp_path: Path) -> dict[str, str]:
    """Keys of a configuration over two clips, without a build."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("dog.mp4", "title.mp4"):
        shutil.copy(clips / name, videos / name)
    return {"video_dir": str(videos), "output_dir": str(tmp_path / "out")}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Counts what torch.compile makes, of whole functions alone, and computes it step by step."""
    import torch
    from torch._dynamo.testing import CompileCounter

    torch.compiler.reset()  # models share upstream's code, which has a limit of graphs
    counter = CompileCounter()
    compiling = partial(torch.compile, backend=counter, fullgraph=True)
    monkeypatch.setattr(torch, "compile", compiling)
    with torch._dynamo.config.patch(optimize_ddp=True):  # it is what it was at the end
        yield counter
