"""What several test folders share: the repository, the shipped clips, a small manifest."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def clips() -> Path:
    """The clips of the demo."""
    return ROOT / "config/demo/clips"
