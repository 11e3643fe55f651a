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
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # as below


class Disk:
    """A disk of its own, at a folder, whose options can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)

    def fill(self, room: int) -> None:
        """Leave room for so many bytes more."""
        command = ["df", "-B1", "--output=used", str(self.folder)]
        used = int(subprocess.run(command, capture_output=True, check=True).stdout.split()[1])
        self.remount(f"size={used + room}")


@contextlib.contextmanager
def small(folder: Path, size: str = "50m") -> Iterator[Disk]:
    """A disk of so many bytes in memory, such as `8m`, if one can be mounted here."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "disk", folder]).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a log may be open there
