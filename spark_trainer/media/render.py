"""A decoded frame as a person sees it: upright, square pixels, SDR colours, RGB."""

import math
import struct
import threading
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image

Deinterlace = Literal["auto", "on", "off"]
Range = Literal["sdr", "pq", "hlg"]

HDR: dict[int, Range] = {16: "pq", 18: "hlg"}  # transfer characteristics, ITU-T H.273 table 3
# Swscale's own tone mapping (ITU-R BT.2390) to the colours of a screen without HDR.
TONE_MAPPED = ":out_transfer=iec61966-2-1:out_primaries=bt709:intent=perceptual"
# Colours are converted exactly, and chroma is read at full resolution.
SCALE = "flags=bicubic+accurate_rnd+full_chroma_int"
BACKGROUND = (0, 0, 0)  # behind the transparent parts of a picture


class Shape(NamedTuple):
    """Everything that decides how a frame is converted; sizes in pixels.

    `colours` are matrix, range, primaries and transfer: filters keep those of their first frame.
    """

    format: str
    stored: tuple[int, int]
    shown: tuple[int, int]
    colours: tuple[int, ...]
    range: Range
    alpha: bool


def dynamic_range(frame: Any) -> Range:
    """Tell whether a frame is SDR, PQ (HDR10, Dolby Vision's base) or HLG."""
    return HDR.get(int(frame.color_trc), "sdr")


def shown_size(frame: Any, ratio: float, max_side_px: int | None) -> tuple[int, int]:
    """Return the width and height that a frame is shown at, before it is turned upright.

    Args:
        frame: PyAV's frame.
        ratio: width of a pixel over its height.
        max_side_px: the longer side is shrunk to it, never enlarged.
    """
    width, height = frame.width * ratio, frame.height
    shrink = min(1.0, max_side_px / max(width, height)) if max_side_px else 1.0
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def image(frame: Any, ratio: float, deinterlace: Deinterlace, max_side_px: int | None) -> "Image":
    """Convert a decoded frame to an image as a person sees it.

    FFmpeg's `estdif` deinterlaces with one frame alone, so a frame looks the same whether reading
    or a seek led to it.
    """
    from PIL.Image import fromarray

    size, lines = (frame.width, frame.height), frame
    if deinterlace == "on" or (deinterlace == "auto" and frame.interlaced_frame):
        lines = filtered(graph(frame.format.name, size, "estdif", "mode=frame"), frame)
    shape = Shape(
        lines.format.name,
        size,
        shown_size(frame, ratio, max_side_px),
        (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc),
        dynamic_range(frame),
        frame.format.has_palette or any(part.is_alpha for part in frame.format.components),
    )
    upright = _turned(fromarray(filtered(own.converter(shape), lines).to_ndarray()), frame)
    return _composed(upright) if shape.alpha else upright


def converter(shape: Shape) -> Any:
    """Build filters from frames of a shape to RGB; for HDR, computing their table takes 2 s."""
    width, height = shape.shown
    mapping = TONE_MAPPED if shape.range != "sdr" else ""
    scale = f"{width}:{height}:{SCALE}{mapping}"
    wanted = "rgba" if shape.alpha else "rgb24"
    return graph(shape.format, shape.stored, "scale", scale, "format", wanted)


class _Own(threading.local):
    """What a thread has built, which bears no other thread."""

    def __init__(self) -> None:
        self.converter = lru_cache(maxsize=8)(converter)


own = _Own()


def graph(pixel_format: str, size: tuple[int, int], *filters: str) -> Any:
    """Build a chain of filters, each given as a name and its options, empty where it has none."""
    from av import VideoFormat
    from av.filter import Graph

    chain = Graph()
    chain.threads = 1
    shape = VideoFormat(pixel_format)
    last = chain.add_buffer(width=size[0], height=size[1], format=shape, time_base=Fraction(1, 1))
    for name, options in zip(filters[::2], filters[1::2], strict=True):
        following = chain.add(name, options or None)
        last.link_to(following)
        last = following
    last.link_to(chain.add("buffersink"))
    chain.configure()
    return chain


def filtered(filters: Any, frame: Any) -> Any:
    """Put one frame through a graph; `estdif` returns it only after the end of its input."""
    kept, frame.pts = frame.pts, 0
    filters.vpush(frame)
    frame.pts = kept
    try:
        return filters.vpull()
    except BlockingIOError:
        filters.vpush(None)
        return filters.vpull()


def _turned(image: "Image", frame: Any) -> "Image":
    """Turn or mirror an image, or both, as the frame's display matrix asks.

    Its rows (a, b, u), (c, d, v), (x, y, w) take a point (x, y) of the stored picture, y pointing
    down, to (a x + c y, b x + d y) of the shown one (libavutil/display.h).
    """
    from PIL.Image import Resampling, Transpose

    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    a, b, _, c, d, *_ = struct.unpack("<9i", bytes(matrix))
    if a * d - b * c < 0:
        image, a, b = image.transpose(Transpose.FLIP_LEFT_RIGHT), -a, -b
    degrees = math.degrees(math.atan2(-b, a)) % 360
    quarter = round(degrees) % 360
    turned = {
        0: None,
        90: Transpose.ROTATE_90,
        180: Transpose.ROTATE_180,
        270: Transpose.ROTATE_270,
    }
    if quarter not in turned:
        return image.rotate(degrees, Resampling.BICUBIC, expand=True)
    move = turned[quarter]
    return image if move is None else image.transpose(move)


def _composed(image: "Image") -> "Image":
    """Put a transparent image over the background."""
    from PIL.Image import alpha_composite, new

    below = new("RGBA", image.size, (*BACKGROUND, 255))
    return alpha_composite(below, image).convert("RGB")
