"""The frame at a time is one and the same, however it is reached and in whatever file."""

import itertools
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spark_trainer.config import Frames
from spark_trainer.media import pictures, stills
from spark_trainer.media.source import Unreadable, opened
from spark_trainer.steps.frames import arguments
from tests import ffmpeg
from tests.media import images_at, images_on_grid

CLIPS = Path(__file__).parents[2] / "config/demo/clips"
RATE = 25
STARTS_S = ("0", "10", "-1.5")
# A picture whose grey level names its number.
GREY = f"nullsrc=s=64x48:r={RATE}:d=6,format=yuv420p,geq=lum='20+mod(N*7,200)':cb=128:cr=128"
TONE = ("-f", "lavfi", "-i", "sine=440:d=6")


@dataclass(frozen=True)
class Kind:
    """How a container is filled: its codecs, which GOPs they can make, where it can begin.

    The first GOP meets every start, the last start every GOP.
    """

    codecs: tuple[str, ...]
    gops: tuple[str, ...] = ("open", "closed", "long")
    starts: tuple[str, ...] = STARTS_S


X264 = Kind(("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"))
MPEG2 = Kind(("-c:v", "mpeg2video", "-q:v", "2", "-c:a", "mp2"))
MPEG4 = Kind(("-c:v", "mpeg4", "-q:v", "2", "-c:a", "libmp3lame"), starts=("0",))
MPEG1 = Kind(("-c:v", "mpeg1video", "-q:v", "2", "-c:a", "mp2"))
VP9 = Kind(("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"))
WMV = Kind(("-c:v", "wmv2", "-q:v", "2", "-c:a", "wmav2"), ("closed", "long"))
THEORA = Kind(
    ("-c:v", "libtheora", "-q:v", "8", "-c:a", "libvorbis"), ("closed", "long"), ("0", "10")
)
AAC3GP = Kind(("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-f", "3gp"))
KINDS = {
    ".3g2": Kind((*X264.codecs, "-f", "3g2")),
    ".3gp": AAC3GP,
    ".asf": WMV,
    ".avi": MPEG4,
    ".divx": Kind((*MPEG4.codecs, "-f", "avi"), starts=("0",)),
    ".f4v": Kind((*X264.codecs, "-f", "f4v")),
    ".flv": X264,
    ".gif": Kind(("-an",), ("intra",)),
    ".m2ts": Kind((*X264.codecs, "-f", "mpegts", "-mpegts_m2ts_mode", "1")),
    ".m1v": Kind(("-c:v", "mpeg1video", "-q:v", "2", "-an")),
    ".m2t": Kind((*X264.codecs, "-f", "mpegts")),
    ".m2v": Kind(("-c:v", "mpeg2video", "-q:v", "2", "-an")),
    ".m4v": Kind((*X264.codecs, "-f", "mp4")),
    ".mkv": X264,
    ".mod": Kind((*MPEG2.codecs, "-f", "mpeg")),
    ".mov": X264,
    ".mp4": X264,
    ".mpe": Kind((*MPEG1.codecs, "-f", "mpeg")),
    ".mpeg": MPEG1,
    ".mpg": MPEG2,
    ".mts": Kind((*X264.codecs, "-f", "mpegts", "-mpegts_m2ts_mode", "1")),
    ".mxf": Kind(("-c:v", "mpeg2video", "-q:v", "2", "-c:a", "pcm_s16le", "-ar", "48000")),
    ".ogm": Kind((*THEORA.codecs, "-f", "ogg"), THEORA.gops, THEORA.starts),
    ".ogv": THEORA,
    ".qt": Kind((*X264.codecs, "-f", "mov")),
    ".tod": Kind((*MPEG2.codecs, "-f", "mpegts")),
    ".tp": Kind((*X264.codecs, "-f", "mpegts")),
    ".trp": Kind((*X264.codecs, "-f", "mpegts")),
    ".ts": X264,
    ".vob": MPEG2,
    ".webm": VP9,
    ".wmv": WMV,
    ".wtv": Kind((*MPEG2.codecs, "-f", "wtv"), starts=("0", "10")),
}
# Whose edit list hides what lies before 0.
CUT_AT_ZERO = {".3g2", ".3gp", ".m4v", ".mov", ".mp4", ".qt"}
GOPS = {
    "closed": ("-g", "12", "-bf", "0"),
    "open": ("-g", "13", "-bf", "2", "-flags", "-cgop", "-x264-params", "open-gop=1"),
    "long": ("-g", "300", "-bf", "2"),
    "intra": (),
}
CASES = [
    pytest.param(
        ending,
        gop,
        start,
        id=f"{ending[1:]}-{gop}-{start}",
        marks=() if (gop, start) in (("open", "10"), ("intra", "0")) else pytest.mark.long,
    )
    for ending, kind in KINDS.items()
    for gop, start in itertools.product(kind.gops, STARTS_S)
    if start in kind.starts and (gop == kind.gops[0] or start == kind.starts[-1])
]


def options(kind: Kind, gop: str) -> tuple[str, ...]:
    """FFmpeg's options for a GOP, as far as the encoder takes them."""
    taken = GOPS[gop]
    if "libx264" not in kind.codecs:
        taken = tuple(word for word in taken if word not in ("-x264-params", "open-gop=1"))
    if {"wmv2", "libtheora", "libvpx-vp9"} & set(kind.codecs):
        taken = taken[:2]
    return taken


def grey(image: Image.Image) -> int:
    """The level of a grey picture."""
    return int(np.asarray(image.convert("L"), float)[8:-8, 8:-8].mean().round())


def extracted(path: Path, folder: Path, **settings: object) -> tuple[dict, list[Image.Image]]:
    """What the frames step makes of a file: its facts, and the JPEGs."""
    folder.mkdir()
    facts = stills.extract(*arguments(path, folder, Frames(**settings)))
    images = [Image.open(file).convert("RGB") for file in sorted(folder.iterdir())]
    assert len(images) == len(facts["times"])
    return facts, images


@pytest.mark.parametrize(("ending", "gop", "start"), CASES)
def test_the_frame_at_a_time_is_the_one_on_disk(
    ending: str, gop: str, start: str, tmp_path: Path
) -> None:
    kind = KINDS[ending]
    path = tmp_path / f"a{ending}"
    sound = () if "-an" in kind.codecs else TONE
    ffmpeg.make(
        path,
        *("-f", "lavfi", "-i", GREY, *sound, *kind.codecs, *options(kind, gop)),
        *("-output_ts_offset", start),
    )
    facts, images = extracted(path, tmp_path / "f", frame_rate=3.0)
    times = facts["times"]
    hidden = round(1.5 * RATE) if start == "-1.5" and ending in CUT_AT_ZERO else 0
    seconds = 6 - hidden / RATE
    assert len(times) == pytest.approx(3 * seconds, abs=1)
    assert facts["duration"] == pytest.approx(seconds, abs=0.15)
    assert facts["fps"] == pytest.approx(RATE, rel=0.02)
    for time, image in zip(times, images, strict=True):
        [shown] = images_at(path, [time])
        difference = np.abs(np.asarray(shown, float) - np.asarray(image, float)).mean()
        assert difference < 4 or ending == ".gif", time  # a GIF's grain is lost in a JPEG
        assert grey(shown) == pytest.approx(grey(image), abs=2)
    numbers = [hidden + round((time - times[0]) * RATE) for time in times]
    # From limited range; the muxer of AVI may leave one frame out behind the first.
    near = [[(4 + (n - less) * 7 % 200) * 255 / 219 for less in (0, 1)] for n in numbers]
    levels = [grey(image) for image in images]
    assert all(
        min(abs(level - one) for one in two) < 6 for level, two in zip(levels, near, strict=True)
    )
    draw = random.Random(0)
    middle = sorted(draw.uniform(times[0], times[-1]) for _ in range(4))
    together = [grey(image) for image in images_at(path, middle)]
    assert together == [grey(images_at(path, [time])[0]) for time in middle]
    assert together == [grey(one) for one in by_reading_on(path, middle)]


def by_reading_on(path: Path, times: list[float]) -> list[Image.Image]:
    """The frames at these times, by reading the file from its start."""
    with opened(path) as source:
        found = pictures.shown(pictures.read(source), times)
        return [picture.image() for picture in found]


def test_every_ending_of_the_configuration_is_here() -> None:
    from spark_trainer.config import Index

    assert set(Index().extensions) <= set(KINDS) | {".dv", ".rm", ".rmvb"}


QUARTERS = (
    "nullsrc=s=64x32:r=10:d=1,format=rgb24,"
    "geq=r='255*lt(X,32)*lt(Y,16)':g='255*gte(X,32)*lt(Y,16)':b='255*lt(X,32)*gte(Y,16)'"
)
RED, GREEN, BLUE, BLACK = "red", "green", "blue", "black"


def corners(image: Image.Image) -> list[str]:
    """The colours of the quarters: top left, top right, bottom left, bottom right."""
    width, height = image.size
    places = [(x, y) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    named = {0: RED, 1: GREEN, 2: BLUE}
    found = [np.array(image.getpixel(place)) for place in places]
    return [named[int(pixel.argmax())] if pixel.max() > 90 else BLACK for pixel in found]


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ((), [RED, GREEN, BLUE, BLACK]),
        (("-display_rotation", "90"), [GREEN, BLACK, RED, BLUE]),
        (("-display_rotation", "180"), [BLACK, BLUE, GREEN, RED]),
        (("-display_rotation", "270"), [BLUE, RED, BLACK, GREEN]),
        (("-display_hflip",), [GREEN, RED, BLACK, BLUE]),
        (("-display_vflip",), [BLUE, BLACK, RED, GREEN]),
        (("-display_rotation", "90", "-display_hflip"), [BLACK, GREEN, BLUE, RED]),
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_turned_and_mirrored_videos_are_upright(
    ending: str, turn: tuple[str, ...], expected: list[str], tmp_path: Path
) -> None:
    plain = ffmpeg.make(
        tmp_path / f"plain.{ending}",
        *("-f", "lavfi", "-i", QUARTERS, "-c:v", "libx264", "-pix_fmt", "yuv444p"),
    )
    path = ffmpeg.make(tmp_path / f"a.{ending}", *turn, "-i", str(plain), "-c", "copy")
    reference = ffmpeg.make(tmp_path / "reference.png", "-i", str(path), "-frames:v", "1")
    _, [still, *_] = extracted(path, tmp_path / "f")
    with Image.open(reference) as shown:
        assert corners(still) == corners(shown.convert("RGB"))
        assert still.size == shown.size
    assert corners(images_at(path, [0.3])[0]) == corners(still) == expected


def test_a_file_that_turns_in_its_middle_shows_each_frame_in_its_own_shape(tmp_path: Path) -> None:
    x264 = (
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        "-g",
        "10",
        "-bf",
        "2",
    )
    parts = [
        ffmpeg.make(tmp_path / f"{n}.ts", "-f", "lavfi", "-i", source, *x264, *offset)
        for n, (source, offset) in enumerate(
            [
                ("testsrc=s=160x120:r=10:d=4.3", ()),
                ("testsrc=s=120x240:r=10:d=4", ("-output_ts_offset", "4.3")),
                ("testsrc=s=160x120:r=10:d=2,setsar=2", ("-output_ts_offset", "8.3")),
            ]
        )
    ]
    path = tmp_path / "turned.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with opened(path) as source:
        sizes = [(round(p.time, 3), p.image().size) for p in pictures.read(source)]
    assert len(sizes) == 103
    groups = [(size, len(list(group))) for size, group in itertools.groupby(s for _, s in sizes)]
    assert groups == [((160, 120), 43), ((120, 240), 40), ((320, 120), 20)]
    assert [time for time, _ in sizes] == pytest.approx([n / 10 for n in range(103)], abs=1e-3)


def test_joined_transport_streams_last_as_long_as_their_parts(tmp_path: Path) -> None:
    x264 = ("-c:v", "libx264", "-bf", "2", "-g", "10", "-output_ts_offset", "10")
    part = ffmpeg.make(
        tmp_path / "a.ts",
        *("-f", "lavfi", "-i", "testsrc=s=160x120:r=10:d=4", *TONE, "-t", "4", *x264),
    )
    path = tmp_path / "joined.ts"
    path.write_bytes(part.read_bytes() * 3)
    facts, _ = extracted(path, tmp_path / "f")
    assert facts["duration"] == pytest.approx(12, abs=0.3)
    assert len(facts["times"]) == pytest.approx(12, abs=1)
    assert facts["container_duration"] < 6


def test_a_long_subtitle_makes_no_long_video(tmp_path: Path) -> None:
    text = tmp_path / "late.srt"
    text.write_text("1\n10:00:00,000 --> 10:00:01,000\nend\n", encoding="utf-8")
    path = ffmpeg.make(
        tmp_path / "a.mkv",
        *("-f", "lavfi", "-i", "testsrc=s=160x120:r=10:d=4", "-i", str(text)),
        *("-map", "0", "-map", "1", "-c:s", "srt"),
    )
    facts, _ = extracted(path, tmp_path / "f")
    assert (facts["duration"], facts["container_duration"]) == (4.0, 36001.0)


@pytest.mark.parametrize("rate", [16.0, 7.5, 40.0])
@pytest.mark.parametrize("name", ["dog.mp4", "hello.mpeg"])
def test_the_grid_shows_what_is_asked_for_by_time(name: str, rate: float) -> None:
    """Of a steady rate and of a phone's: as many frames as the video lasts, each at its time."""
    path, count = CLIPS / name, round(1.2 * rate)
    grid = images_on_grid(path, rate, count)
    asked = images_at(path, [number / rate for number in range(count)])
    assert [image.tobytes() for image in grid] == [image.tobytes() for image in asked]


def test_the_grid_ends_with_the_video() -> None:
    """dog.mp4 lasts 1.57 s, the last frame included."""
    assert len(images_on_grid(CLIPS / "dog.mp4", 16.0)) == 25


def test_a_text_file_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("not a video")
    with pytest.raises(Unreadable, match="a text file"):
        images_at(path, [0.0])
