"""Still frames of a video as JPEG files, and what decoding them tells about the video."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.media import motion, pictures, render
from spark_trainer.media.pictures import Picture
from spark_trainer.media.render import Deinterlace
from spark_trainer.media.source import Source, Unreadable, codec_name, opened
from spark_trainer.system import workers

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = ("gif", "apng")  # formats whose files are pictures first, and videos if they move
SAME_RATE = 0.01  # relative difference below which the container's rate counts as the true one


@dataclass
class _Seen:
    """The facts that decoding a video has shown."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0
    end: float = 0.0
    interlaced: bool = False
    range: render.Range = "sdr"
    size: tuple[int, int] = (0, 0)
    times: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)

    def follow(self, found: Iterator[Picture]) -> Iterator[Picture]:
        """Yield the same pictures and note them; each adds to the CPU time that is allowed."""
        for picture in found:
            if not self.count:
                self.first = self.last = picture.time
                self.range = render.dynamic_range(picture.frame)
            workers.spend(picture.time - self.last)
            self.count += 1
            self.last, self.end = picture.time, picture.time + picture.duration
            self.interlaced |= bool(picture.frame.interlaced_frame)
            yield picture

    def rate(self, claimed: float | None) -> float | None:
        """Return the frames per second: the container's claim if it is about the counted rate."""
        if self.count < 2:
            return claimed
        counted = (self.count - 1) / (self.last - self.first)
        return claimed if claimed and abs(claimed / counted - 1) < SAME_RATE else counted


def extract(
    path: str,
    folder: str,
    frame_rate: float,
    jpeg_qscale: int,
    max_side_px: int | None,
    deinterlace: Deinterlace,
    max_megapixels: float,
    max_frames: int,
) -> dict[str, Any]:
    """Write `frame_000001.jpg` … into a folder.

    Args:
        path: the video.
        folder: an empty folder.
        frame_rate: frames per second of video; see `pictures.steady`.
        jpeg_qscale: FFmpeg's scale of JPEG quality, 1 is the best.
        max_side_px: the longer side is shrunk to it.
        deinterlace: `auto` where a frame says that it is interlaced.
        max_megapixels: largest frame, as it is shown.
        max_frames: most frames to write.

    Returns:
        Times and size of the frames; duration and rate, as decoded and as the container has them.

    Raises:
        Unreadable: the file is no video, holds no frame, or more than the limits allow.
        OSError: the disk fails.
    """
    with opened(Path(path)) as source:
        stream = pictures.video_stream(source)
        seen, before = _Seen(), None
        found = seen.follow(pictures.read(source, max_megapixels))
        for picture in pictures.steady(found, frame_rate):
            if len(seen.times) == max_frames:
                raise Unreadable(f"more frames than frames.max_frames = {max_frames}")
            image = picture.image(deinterlace, max_side_px)
            seen.times.append(round(picture.time, 6))
            seen.size = seen.size if before is not None else image.size
            cells = motion.cells(image)
            if before is not None and before.shape == cells.shape:
                seen.moved.append(motion.between(before, cells))
            before = cells
            _write(Path(folder) / f"frame_{len(seen.times):06d}.jpg", jpeg(image, jpeg_qscale))
        complaint = source.complaint(stream)
        if source.format in PICTURES and seen.count == 1:
            raise Unreadable("a still picture, not a video")
        if not seen.times:
            raise Unreadable(f"no decodable frame: {complaint or 'the video stream is empty'}")
        return _facts(source, stream, seen, complaint)


def _facts(source: Source, stream: Any, seen: _Seen, complaint: str | None) -> dict[str, Any]:
    claimed = float(stream.average_rate) if stream.average_rate else None
    facts = {
        "times": seen.times,
        "duration": _rounded(seen.end),
        "container_duration": _rounded(source.duration),
        "fps": _rounded(seen.rate(claimed)),
        "container_fps": _rounded(claimed),
        "width": seen.size[0],
        "height": seen.size[1],
        "codec": codec_name(stream),
        "motion": round(motion.mean(seen.moved), 2),
        "dynamic_range": seen.range,
        "interlaced": seen.interlaced,
    }
    return facts | ({"damaged": complaint} if complaint else {})


def jpeg(image: "Image", qscale: int) -> bytes:
    """Encode an image as JPEG, 4:2:0, by FFmpeg's quality scale."""
    import av

    frame = render.filtered(_for_jpeg(image.size), av.VideoFrame.from_image(image))
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = image.width, image.height, "yuvj420p"
    encoder.time_base = Fraction(1)
    encoder.thread_count = 1
    encoder.qmin = encoder.qmax = qscale
    encoder.options = {"flags": "+bitexact"}
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


@lru_cache(maxsize=4)
def _for_jpeg(size: tuple[int, int]) -> Any:
    """Build filters from RGB to BT.601 in full range, the colours that JPEG is defined in."""
    options = f"{render.SCALE}:out_color_matrix=bt601:out_range=full"
    return render.graph("rgb24", size, "scale", options, "format", "yuvj420p")


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
