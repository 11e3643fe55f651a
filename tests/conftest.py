"""What several test folders share: the repository, the shipped clips, a small manifest."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Tiny models lose more to the threads' meetings than they gain; torch reads it when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def clips() -> Path:
    """The clips of the demo."""
    return ROOT / "config/demo/clips"
