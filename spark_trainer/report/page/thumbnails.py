"""Small pictures of videos, as texts that stand in the page.

Those of the last page are kept, each with the size and time of the frame that it was made from, so
that a page over ten thousand videos is a minute's work once, and seconds after that.
"""

import base64
import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from spark_trainer.data import jsonl
from spark_trainer.data.files import canonical_json, replacing
from spark_trainer.data.layout import Layout

SIDE_PX = 224  # the longer one; WebP then takes about 2 kB of a picture
QUALITY = 45
FORMATS = ("JPEG", "PNG", "WEBP")  # for others PIL may start a program, such as Ghostscript

Stamp = tuple[str, int, int]  # a frame's file name, its bytes, and its time in ns


@dataclass(frozen=True)
class Thumbnails:
    """The pictures of a store's videos."""

    layout: Layout

    def of(self, frames: Mapping[str, Path], threads: int) -> dict[str, str]:
        """Return id -> its picture, WebP in base 64; without videos whose frame can't be read.

        Args:
            frames: id -> the file of a frame.
            threads: that make pictures at once.
        """
        known = dict(self._kept())
        wanted = {video: stamp for video, path in frames.items() if (stamp := _stamp(path))}
        due = [video for video, stamp in wanted.items() if known.get(video, ("",))[0] != stamp]
        with ThreadPoolExecutor(threads) as pool:
            made = dict(zip(due, pool.map(lambda video: picture(frames[video]), due), strict=True))
        found = {video: made[video] if video in made else known[video][1] for video in wanted}
        if self.layout.state.is_dir() and (due or known.keys() != wanted.keys()):
            self._keep(wanted, found)
        return {video: text for video, text in found.items() if text}

    def _kept(self) -> Iterator[tuple[str, tuple[Stamp, str]]]:
        """Yield the pictures of the last page; those of a damaged file are made again."""
        path = self.layout.thumbnails
        try:
            for _, _, line in jsonl.texts(path) if path.exists() else ():
                said = jsonl.parsed(line)
                name, size, changed = said["frame"]
                yield said["id"], ((name, size, changed), said["picture"])
        except (ValueError, KeyError, TypeError):
            return

    def _keep(self, stamps: Mapping[str, Stamp], pictures: Mapping[str, str]) -> None:
        lines = (
            {"id": video, "frame": stamps[video], "picture": text}
            for video, text in pictures.items()
        )
        with replacing(self.layout.thumbnails, flushed=False) as part, open(part, "wb") as file:
            file.writelines(canonical_json(line).encode() + b"\n" for line in lines)


def _stamp(frame: Path) -> Stamp | None:
    try:
        status = frame.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return frame.name, status.st_size, status.st_mtime_ns


def picture(frame: Path) -> str:
    """Return a frame made small; nothing where its file is no picture."""
    from PIL import Image

    made = io.BytesIO()
    try:
        with Image.open(frame, formats=FORMATS) as image:
            image.draft("RGB", (SIDE_PX, SIDE_PX))  # a JPEG is decoded as small as that allows
            small = image.convert("RGB")
            small.thumbnail((SIDE_PX, SIDE_PX))
            small.save(made, "WEBP", quality=QUALITY)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return ""
    return base64.b64encode(made.getvalue()).decode()
