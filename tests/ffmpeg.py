"""FFmpeg's program, which makes the tests' videos; the product itself decodes by PyAV.

What it is asked for is built by ffmpeg-python: `write(read(video, t=2).output("a.mp4"))`.
"""

import subprocess
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg

QUIET = ("-hide_banner", "-nostdin", "-v", "error", "-y")


def binary() -> str:
    """The FFmpeg of the imageio-ffmpeg wheel, the same on every machine."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def read(path: Path, **options: Any) -> Any:
    """A file as the input of a graph."""
    return ffmpeg.input(f"file:{path}", **options)


def drawn(source: str) -> Any:
    """What FFmpeg draws or sounds itself, as the input of a graph: `testsrc=s=64x48:d=1`."""
    return ffmpeg.input(source, f="lavfi")


def joined(*streams: Any) -> Any:
    """Pictures one after the other."""
    return ffmpeg.concat(*streams)


def write(output: Any) -> None:
    """Run a graph; an error of FFmpeg's is the test's."""
    subprocess.run(output.global_args(*QUIET).compile(cmd=binary()), check=True)


def make(path: Path, *arguments: str) -> Path:
    """Make a file by FFmpeg's own words, where the words are what a test is about."""
    subprocess.run([binary(), *QUIET, *arguments, f"file:{path}"], check=True)
    return path
