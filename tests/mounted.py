"""Real file systems of other kinds than the one that tests run on."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def coarse(folder: Path) -> Iterator[Path]:
    """A real file system whose clock counts whole seconds, if one can be mounted here."""
    image, place = folder / "image", folder / "mounted"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    for command in (["mkfs.ext4", "-q", "-I", "128", image], ["mount", "-o", "loop", image, place]):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"can't {command[0]} here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextlib.contextmanager
def small(folder: Path, size: str) -> Iterator[Path]:
    """A disk of so many bytes, such as `8m`, if one can be mounted here."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
