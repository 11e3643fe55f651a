"""FFmpeg's program, which makes the tests' videos; the product itself decodes by PyAV."""

import subprocess
from pathlib import Path

import imageio_ffmpeg


def binary() -> str:
    """The FFmpeg of the imageio-ffmpeg wheel, the same on every machine."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def make(path: Path, *arguments: str) -> Path:
    """Make a file; an error of FFmpeg's is the test's."""
    command = [binary(), "-hide_banner", "-nostdin", "-v", "error", "-y", *arguments]
    subprocess.run([*command, f"file:{path}"], check=True)
    return path
