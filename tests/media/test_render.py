"""What a person sees: HDR as on a screen without it, lines filled in, nothing behind glass."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from spark_trainer.media import render
from tests import ffmpeg
from tests.media import images_at

NITS = np.array([0.0, 5, 50, 100, 203, 400, 700, 1000])


def pq(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: display light to signal."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (nits / 10000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def hlg(nits: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100: light of a 1000 nit screen to signal, its gamma of 1.2 taken back."""
    scene = (nits / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-12)) + c
    )


@pytest.mark.parametrize(("transfer", "signal"), [(16, pq), (18, hlg)])
def test_hdr_is_shown_in_the_range_of_sdr(transfer: int, signal) -> None:  # type: ignore[no-untyped-def]
    """Brighter stays brighter, nothing is cut off, and a white sheet of paper looks white."""
    row = np.repeat(signal(NITS) * 65535, 8).astype(np.uint16)
    rgb = np.broadcast_to(row[None, :, None], (16, row.size, 3)).copy()
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb48le")
    frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, 9, 1
    frame.time_base = Fraction(1, 25)
    shown = np.asarray(render.image(frame, 1.0, "auto", None), float).mean((0, 2))[4::8]
    assert render.dynamic_range(frame) in ("pq", "hlg")
    assert (np.diff(shown) > 2).all(), shown
    assert shown[0] < 4
    assert 130 < shown[4] < 235  # reference white of HDR, 203 nits (ITU-R BT.2408)
    assert shown[-1] < 256


def test_interlaced_frames_are_filled_in_and_others_left_alone(tmp_path: Path) -> None:
    """A bar that moves shows no comb: neighbouring lines are alike."""
    moving = (
        "nullsrc=s=128x64:r=50:d=1,format=yuv420p,geq=lum='235*lt(mod(X-N*6,64),20)':cb=128:cr=128"
    )
    path = ffmpeg.make(
        tmp_path / "a.ts",
        *("-f", "lavfi", "-i", moving, "-vf", "tinterlace=interleave_top,setfield=tff"),
        *("-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-q:v", "2"),
    )
    pictures = {
        how: np.asarray(next(iter_images(path, how)).convert("L"), float)
        for how in ("off", "auto", "on")
    }
    comb = {how: np.abs(np.diff(shown, axis=0)).mean() for how, shown in pictures.items()}
    assert comb["off"] > 5 * comb["auto"]
    assert comb["auto"] == comb["on"]


def test_a_frame_looks_the_same_whatever_was_shown_before(tmp_path: Path) -> None:
    """Files alike but for their colours share no filters, in whatever order they come."""
    source = ("-f", "lavfi", "-i", "testsrc=s=96x64:r=5:d=1")
    tags = {
        "none.mp4": (),
        "hd.mp4": ("-colorspace", "bt709", "-color_range", "tv"),
        "full.mp4": ("-colorspace", "smpte170m", "-color_range", "pc"),
    }
    x264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
    paths = [ffmpeg.make(tmp_path / name, *source, *x264, *tag) for name, tag in tags.items()]
    alone = {}
    for path in paths:
        render.own.converter.cache_clear()
        alone[path] = images_at(path, [0.4])[0].tobytes()
    for path in (*paths, *reversed(paths)):
        assert images_at(path, [0.4])[0].tobytes() == alone[path], path.name
    assert len(set(alone.values())) == 3


def test_threads_share_no_filters(tmp_path: Path) -> None:
    """Videos of one shape that are decoded at once look as they do alone."""
    source = "mandelbrot=s=320x240:r=25:start_scale={}:end_scale=0.1,trim=duration=2"
    paths = [
        ffmpeg.make(tmp_path / f"{n}.mp4", "-f", "lavfi", "-i", source.format(3 - n / 2))
        for n in range(4)
    ]
    times = [second / 25 for second in range(40)]

    def shown(path: Path) -> list[bytes]:
        return [image.tobytes() for image in images_at(path, times)]

    alone = [shown(path) for path in paths]
    with ThreadPoolExecutor(len(paths)) as pool:
        assert [*pool.map(shown, paths)] == alone


def iter_images(path: Path, deinterlace: render.Deinterlace):  # type: ignore[no-untyped-def]
    """Frames from the fifth on."""
    from itertools import islice

    from spark_trainer.media import pictures
    from spark_trainer.media.source import opened

    with opened(path) as source:
        for picture in islice(pictures.read(source), 5, None):
            yield picture.image(deinterlace)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mov", ("-c:v", "qtrle", "-pix_fmt", "argb")),
        ("b.mov", ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le")),
        ("a.webm", ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p")),
        ("b.webm", ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0")),
        ("a.gif", ("-filter_complex", "split[a][b];[a]palettegen[p];[b][p]paletteuse")),
    ],
)
def test_what_is_transparent_shows_black(name: str, codec: tuple[str, ...], tmp_path: Path) -> None:
    glass = "geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*lt(X,32)'"
    half = f"color=0xE04020:s=64x32:r=5:d=1,format=rgba,{glass}"
    path = ffmpeg.make(tmp_path / name, "-f", "lavfi", "-i", half, *codec)
    [image] = images_at(path, [0.4])
    assert image.mode == "RGB"
    shown = np.asarray(image, float)
    assert shown[8:24, 4:24].mean((0, 1)) == pytest.approx((0xE0, 0x40, 0x20), abs=14)
    assert shown[8:24, 40:60].max() < 12
