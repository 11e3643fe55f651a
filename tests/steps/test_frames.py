"""Frames against an independent decode by PyAV, and what is said of files that have none."""

import contextlib
import itertools
import math
import os
import random
import re
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from spark_trainer.errors import MachineError

Build = Callable[..., "Built"]  # noqa: F821  # tests/steps/conftest.py
Encode = Callable[..., Path]

CLIPS = ["bunny.mp4", "cup.mp4", "dog.mp4", "globe-reading.mp4", "hello.mpeg", "title.mp4"]
X264 = ("-an", "-c:v", "libx264", "-preset", "ultrafast")
BOTH = ("-map", "0:v", "-map", "1:a", "-c", "copy")
TWO_SECONDS = ("-t", "2", "-i", "globe-reading.mp4")

# What FFmpeg makes of the demo's clips: file name -> arguments.
MADE = {
    "rotated-90.mp4": (
        "-display_rotation",
        "90",
        "-t",
        "2",
        "-i",
        "globe-reading.mp4",
        "-c",
        "copy",
    ),
    "rotated-180.mp4": ("-display_rotation", "180", "-t", "2", "-i", "title.mp4", "-c", "copy"),
    "rotated-270.mp4": ("-display_rotation", "270", "-t", "2", "-i", "dog.mp4", "-c", "copy"),
    "ten-bit.mp4": (*TWO_SECONDS, *X264, "-pix_fmt", "yuv420p10le"),
    "odd-size.mp4": (*TWO_SECONDS, *X264, "-vf", "scale=321:241,setsar=1,format=yuv444p"),
    "wide-pixels.mp4": (*TWO_SECONDS, *X264, "-vf", "setsar=3/2"),
    "bt709.mp4": (
        *("-f", "lavfi", "-i", "testsrc=s=320x240:r=10:d=2", *X264),
        *("-vf", "scale=out_color_matrix=bt709,format=yuv444p", "-colorspace", "bt709"),
    ),
    "variable-rate.mkv": ("-i", "dog.mp4", "-c", "copy"),
    "gap.mp4": (
        *("-i", "cup.mp4", *X264),
        "-vf",
        "select=lt(t\\,1)+gt(t\\,4)",
        "-fps_mode",
        "vfr",
    ),
    "late-video.mkv": ("-itsoffset", "1.5", "-i", "bunny.mp4", "-i", "cup.mp4", *BOTH),
    "late-video.ts": ("-itsoffset", "1.5", "-i", "bunny.mp4", "-i", "cup.mp4", *BOTH),
    "slideshow.mp4": ("-f", "lavfi", "-i", "smptebars=r=1/5:d=20", *X264),
    "short.mp4": ("-t", "0.3", "-i", "globe-reading.mp4", *X264),
    "one-frame.mp4": ("-i", "globe-reading.mp4", "-frames:v", "1", *X264),
    "one-frame.mkv": ("-i", "globe-reading.mp4", "-frames:v", "1", *X264),
}


def decode(path: Path, rate: float) -> tuple[list[float], list[np.ndarray], float]:
    """PyAV's times and upright pixels of the first frame at or after each k / rate; seconds per
    frame.
    """
    times, images, wanted = [], [], 0.0
    with av.open(os.fspath(path)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            time = float(frame.pts * stream.time_base) - (container.start_time or 0) / 1e6
            if time < wanted / rate - 1e-6:
                continue
            times.append(time)
            images.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
            wanted = math.floor(time * rate + 1e-6) + 1
        return times, images, float(1 / stream.average_rate)


def assert_as_decoded(built: "Built", path: Path, rate: float) -> None:  # noqa: F821
    """Frames, their times and their pixels are those of PyAV's decode."""
    times, images, frame_seconds = decode(path, rate)
    record, files = built.record(path.name, "frames"), built.frames(path.name)
    assert record["status"] == "ok"
    assert "damaged" not in record
    assert len(files) == len(record["times"]) == len(times) >= 1
    assert record["times"] == pytest.approx(times, abs=frame_seconds / 2)
    for file, pixels in zip(files, images, strict=True):
        with Image.open(file) as image:
            assert image.size == (record["width"], record["height"])
            upright = Image.fromarray(np.ascontiguousarray(pixels)).resize(image.size)
            difference = np.asarray(image.convert("RGB"), float) - np.asarray(upright, float)
        assert np.abs(difference).mean() < 4
        assert np.abs(difference.mean((0, 1))).max() < 3


@pytest.mark.parametrize("clip", CLIPS)
def test_frames_of_a_clip_are_those_of_another_decoder(
    clip: str,
    clips: Path,
    demo: "Built",  # noqa: F821
) -> None:
    assert_as_decoded(demo, clips / clip, rate=1.0)


@pytest.mark.parametrize("clip", CLIPS)
def test_motion_is_what_another_decoder_sees(clip: str, clips: Path, demo: "Built") -> None:  # noqa: F821
    _, images, _ = decode(clips / clip, 1.0)
    luma = [image @ np.array([0.299, 0.587, 0.114]) for image in images]
    height, width = (side // 8 * 8 for side in luma[0].shape)
    cells = [
        frame[:height, :width].reshape(height // 8, 8, width // 8, 8).mean((1, 3)) for frame in luma
    ]
    expected = np.mean([np.abs(b - a).mean() for a, b in itertools.pairwise(cells)])
    assert demo.record(clip, "frames")["motion"] == pytest.approx(expected, rel=0.05, abs=0.1)


@pytest.mark.parametrize("name", ["slideshow.mp4", "one-frame.mp4"])
def test_nothing_moves_in_a_still(name: str, build: Build, encode: Encode) -> None:
    path = encode(name, *MADE[name])
    assert build("frames").record(path.name, "frames")["motion"] < 0.05


@pytest.mark.parametrize("name", MADE)
def test_frames_of_a_made_video_are_those_of_another_decoder(
    name: str, build: Build, encode: Encode
) -> None:
    path = encode(name, *MADE[name])
    assert_as_decoded(build("frames", frames={"frame_rate": 2.5}), path, rate=2.5)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("rotated-90.mp4", (270, 480)),
        ("rotated-180.mp4", (960, 540)),
        ("rotated-270.mp4", (480, 853)),
        ("odd-size.mp4", (321, 241)),
        ("wide-pixels.mp4", (720, 270)),
    ],
)
def test_frames_are_upright_with_square_pixels(
    name: str, size: tuple[int, int], build: Build, encode: Encode
) -> None:
    encode(name, *MADE[name])
    record = build("frames").record(name, "frames")
    assert (record["width"], record["height"]) == size


@pytest.mark.parametrize(
    ("limit_px", "size"), [(100, (100, 38)), (360, (360, 135)), (999, (720, 270))]
)
def test_max_side_px_shrinks_and_never_enlarges(
    limit_px: int, size: tuple[int, int], build: Build, encode: Encode
) -> None:
    encode("wide.mp4", *MADE["wide-pixels.mp4"])
    built = build("frames", frames={"max_side_px": limit_px})
    with Image.open(built.frames("wide.mp4")[0]) as image:
        assert image.size == size


def test_colours_survive_the_matrix_of_hd_video(build: Build, encode: Encode) -> None:
    crimson = "color=0xE02040:s=320x240:r=5:d=1,format=rgb24"
    matrix = "scale=out_color_matrix=bt709,format=yuv444p"
    encode("hd.mp4", "-f", "lavfi", "-i", crimson, "-vf", matrix, "-colorspace", "bt709", *X264)
    with Image.open(build("frames").frames("hd.mp4")[0]) as image:
        assert np.asarray(image).mean((0, 1)) == pytest.approx((0xE0, 0x20, 0x40), abs=4)


def test_frames_are_the_same_bytes_when_made_twice(build: Build, videos: Path, clips: Path) -> None:
    shutil.copy(clips / "dog.mp4", videos)
    first = [frame.read_bytes() for frame in build("frames").frames("dog.mp4")]
    built = build()
    built.index.layout.record(built.video("dog.mp4"), "frames").unlink()
    assert [frame.read_bytes() for frame in build("frames").frames("dog.mp4")] == first


@pytest.mark.parametrize(
    "name",
    [
        "žluťoučký ☃ 動画.mp4",
        "two  words.mp4",
        'it\'s "quoted".mp4',
        "-dash.mp4",
        "new\nline.mp4",
        "100%d%%.mp4",
        "a:b;c,d=[e]*?.mp4",
        os.fsdecode(b"\xff\xfe.mp4"),
    ],
)
def test_any_file_name_works(name: str, build: Build, videos: Path, clips: Path) -> None:
    shutil.copy(clips / "dog.mp4", videos / name)
    built = build("frames", "audio")
    assert len(built.frames(name)) == 2
    assert built.record(name, "audio")["duration"] == pytest.approx(1.6, abs=0.01)


def cover_first(path: Path) -> None:
    """Move the metadata with the cover in front of the tracks, so that the cover is stream 0."""
    data = path.read_bytes()
    start = data.index(b"moov") - 4
    size, position, boxes = int.from_bytes(data[start : start + 4]), start + 8, []
    while position < start + size:
        length = int.from_bytes(data[position : position + 4])
        boxes.append(data[position : position + length])
        position += length
    boxes.sort(key=lambda box: box[4:8] != b"udta")
    path.write_bytes(data[: start + 8] + b"".join(boxes) + data[start + size :])


@pytest.mark.parametrize("cover_stream", [0, 2])
def test_a_cover_is_not_the_video(
    cover_stream: int, build: Build, encode: Encode, videos: Path, tmp_path: Path
) -> None:
    encode("cover.jpg", "-f", "lavfi", "-i", "smptebars=s=64x64", "-frames:v", "1")
    cover = shutil.move(videos / "cover.jpg", tmp_path)
    path = encode(
        *("covered.mp4", "-i", "globe-reading.mp4", "-i", str(cover)),
        *("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:1", "attached_pic"),
    )
    if cover_stream == 0:
        cover_first(path)
    with av.open(str(path)) as container:
        assert container.streams[cover_stream].codec_context.name == "mjpeg"
    record = build("frames").record("covered.mp4", "frames")
    assert (record["codec"], record["width"], len(record["times"])) == ("h264", 480, 8)


def test_a_song_with_a_cover_is_no_video(
    build: Build, encode: Encode, videos: Path, tmp_path: Path
) -> None:
    encode("cover.jpg", "-f", "lavfi", "-i", "smptebars=s=64x64", "-frames:v", "1")
    cover = shutil.move(videos / "cover.jpg", tmp_path)
    encode(
        *("song.mp4", "-t", "2", "-i", "globe-reading.mp4", "-i", str(cover), "-map", "0:a"),
        *("-map", "1", "-c:a", "libmp3lame", "-c:v", "copy", "-f", "mp3"),
    )
    built = build("frames", "audio")
    assert built.record("song.mp4", "frames")["reason"] == "no video stream"
    assert built.record("song.mp4", "audio")["status"] == "ok"


def half(path: Path) -> bytes:
    """The first half of a file, which does not end between two transport packets."""
    return path.read_bytes()[: path.stat().st_size // 2 | 1]


def overwritten(path: Path, start: int, count: int, seed: int = 0) -> bytes:
    """A file with `count` stretches of noise behind `start`."""
    noise, data = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(count):
        position = noise.randrange(start, len(data) - 50)
        data[position : position + 50] = noise.randbytes(50)
    return bytes(data)


UNREADABLE = "not readable as media: moov atom not found: the file is cut short, or is no MP4"
UNKNOWN = "not readable as media: Invalid data found when processing input"
NO_VIDEO = {
    "empty": (lambda clip: b"", "empty file"),
    "text": (
        lambda clip: "No video — čeština.\n".encode() * 9,
        "not a video: a text file",
    ),
    "zeros": (lambda clip: bytes(5000), UNKNOWN),
    "noise": (lambda clip: random.Random(0).randbytes(5000), UNKNOWN),
    "header only": (lambda clip: clip.read_bytes()[:32], UNREADABLE),
    "cut before its index": (half, UNREADABLE),
    "playlist": (
        lambda clip: f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip}\n".encode(),
        "not a video: a text file",
    ),
    "list of files": (
        lambda clip: b"ffconcat version 1.0\nfile neighbour.mp4\n",
        "not a video: a text file",
    ),
    "subtitles": (
        lambda clip: b"1\n00:00:01,000 --> 00:00:02,000\nHello.\n\n",
        "not a video: a text file",
    ),
}


@pytest.mark.parametrize("kind", NO_VIDEO)
def test_what_is_no_video_is_rejected_with_the_reason(
    kind: str, build: Build, encode: Encode, videos: Path
) -> None:
    neighbour = encode("neighbour.mp4", "-t", "2", "-i", "cup.mp4", "-c", "copy")
    content, reason = NO_VIDEO[kind]
    (videos / "bad.mp4").write_bytes(content(neighbour))
    built = build("frames", "audio")
    for step in ("frames", "audio"):
        assert built.record("bad.mp4", step)["status"] == "rejected"
        assert built.record("bad.mp4", step)["reason"] == reason
        assert built.record("neighbour.mp4", step)["status"] == "ok"
    assert built.frames("bad.mp4") == []
    assert not built.audio("bad.mp4").exists()


def test_audio_alone_is_no_video(build: Build, encode: Encode) -> None:
    encode("audio.mp4", "-i", "cup.mp4", "-vn", "-c", "copy")
    record = build("frames").record("audio.mp4", "frames")
    assert (record["status"], record["reason"]) == ("rejected", "no video stream")


def test_an_encrypted_video_is_rejected_as_such(build: Build, encode: Encode) -> None:
    key, name = "76a6c65c5ea762046bd749a2e632ccbb", "a7e61c373e219033c21091fa607bf3b8"
    scheme = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key)
    encode("bought.mp4", "-i", "cup.mp4", "-c", "copy", *scheme, "-encryption_kid", name)
    built = build("frames", "audio")
    record = built.record("bought.mp4", "frames")
    assert (record["status"], record["reason"][:15]) == ("rejected", "it is encrypted")
    assert built.record("bought.mp4", "audio")["status"] == "none"


def test_a_video_stream_without_a_packet_is_rejected(build: Build, encode: Encode) -> None:
    encode("hollow.mkv", "-i", "cup.mp4", "-c", "copy", "-bsf:v", "noise=drop=1")
    record = build("frames").record("hollow.mkv", "frames")
    assert record["status"] == "rejected"
    assert record["reason"] == "no decodable frame: the video stream is empty"


CUT = r"the file is cut short: \d+ of \d+ bytes are there"
ALIKE = ("-c:v", "mpeg4", "-c:a", "libmp3lame")
DAMAGED = {
    "cut.mp4": (("-c", "copy", "-movflags", "+faststart"), half, CUT),
    "cut.mov": (("-c", "copy", "-movflags", "+faststart"), half, CUT),
    "cut.avi": (ALIKE, half, CUT),
    "cut.mkv": (("-c", "copy"), half, "File ended prematurely"),
    "cut.ts": (("-c", "copy"), half, "cut short: its last transport packet is incomplete"),
    "cut.mpg": (("-c:v", "mpeg2video", "-c:a", "mp2"), half, r"\[mpeg2?video\]|\[mpegvideo\]"),
    "noisy.mp4": (("-c", "copy"), lambda path: overwritten(path, 9000, 60), r"\[h264\]"),
    "noisy.mkv": (ALIKE, lambda path: overwritten(path, 9000, 60), r"\[mpeg4\]|matroska"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_video_is_used_in_part_and_marked(
    name: str, build: Build, encode: Encode
) -> None:
    arguments, damage, reason = DAMAGED[name]
    path = encode(name, "-i", "cup.mp4", *arguments)
    path.write_bytes(damage(path))
    built = build("frames")
    record = built.record(name, "frames")
    assert record["status"] == "ok"
    assert record["reason"] == f"damaged: {record['damaged']}"
    assert len(record["times"]) == len(built.frames(name)) > 2
    assert re.search(reason, record["damaged"]), record["damaged"]


@pytest.mark.parametrize("name", ["cut.mp4", "noisy.mp4"])
def test_a_damaged_video_is_rejected_where_the_setting_says_so(
    name: str, build: Build, encode: Encode
) -> None:
    arguments, damage, _ = DAMAGED[name]
    path = encode(name, "-i", "cup.mp4", *arguments)
    path.write_bytes(damage(path))
    built = build("frames", frames={"damaged": "reject"})
    record = built.record(name, "frames")
    assert record["status"] == "rejected"
    assert record["reason"].startswith("damaged: ")
    assert built.frames(name) == []


def test_a_cut_between_two_frames_is_noticed(build: Build, encode: Encode) -> None:
    path = encode("cut.mp4", "-i", "cup.mp4", "-c", "copy", "-movflags", "+faststart")
    with av.open(str(path)) as container:
        entry = container.streams.video[0].index_entries[100]
        end = entry.pos
    path.write_bytes(path.read_bytes()[:end])
    assert "cut short" in build("frames").record("cut.mp4", "frames")["damaged"]


def test_noise_in_place_of_all_frames_is_rejected(build: Build, encode: Encode) -> None:
    path = encode("noise.mp4", "-i", "cup.mp4", "-c", "copy", "-movflags", "+faststart")
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + random.Random(0).randbytes(len(data) - start))
    record = build("frames").record("noise.mp4", "frames")
    assert record["status"] == "rejected"
    assert record["reason"].startswith("no decodable frame: [h264] ")


def test_broken_sound_is_no_damage_to_the_picture(build: Build, encode: Encode) -> None:
    path = encode("sound.mp4", "-i", "cup.mp4", "-c", "copy", "-movflags", "+faststart")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for entry in container.streams.audio[0].index_entries:
            data[entry.pos : entry.pos + entry.size] = random.Random(0).randbytes(entry.size)
    path.write_bytes(data)
    built = build("frames", "audio")
    assert "damaged" not in built.record("sound.mp4", "frames")
    assert "[aac]" in str(built.record("sound.mp4", "audio"))


def test_a_header_that_asks_for_a_huge_picture_costs_its_own_video_alone(
    build: Build, encode: Encode
) -> None:
    """4000 × 4000 pixels, each 16 times as wide as high."""
    encode("good.mp4", "-t", "1", "-i", "cup.mp4", "-c", "copy")
    encode(
        "wide.mp4",
        *("-f", "lavfi", "-i", "color=s=4000x4000:r=1:d=1", *X264, "-vf", "setsar=16"),
    )
    built = build("frames")
    reason = built.record("wide.mp4", "frames")["reason"]
    assert "64000 × 4000" in reason
    assert "max_megapixels" in reason
    assert built.record("good.mp4", "frames")["status"] == "ok"


def test_more_frames_than_the_setting_are_refused(build: Build, encode: Encode) -> None:
    encode("a.mp4", "-f", "lavfi", "-i", "smptebars=r=25:d=2", *X264)
    built = build("frames", frames={"frame_rate": 25, "max_frames": 20})
    assert built.record("a.mp4", "frames")["reason"] == "more frames than frames.max_frames = 20"
    assert built.frames("a.mp4") == []


def test_time_stamps_a_century_ahead_make_no_long_video(build: Build, encode: Encode) -> None:
    path = encode("a.mkv", "-t", "2", "-i", "cup.mp4", "-c", "copy")
    data = path.read_bytes()
    clusters = [m.start() for m in re.finditer(rb"\x1f\x43\xb6\x75", data)]
    place = data.index(b"\xe7", clusters[-1])  # the cluster's time stamp: id, length, value
    length = data[place + 1] & 0x7F
    path.write_bytes(data[: place + 2] + b"\x7f" * length + data[place + 2 + length :])
    record = build("frames").record("a.mkv", "frames")
    assert record["status"] == "ok"
    assert record["duration"] < 400


@pytest.mark.parametrize("by", ["SIGKILL", "SIGTERM"])
def test_a_killed_decoder_is_no_fact_about_the_video(
    by: str, build: Build, videos: Path, clips: Path
) -> None:
    """Four kills of the processes that decode: all is as undisturbed."""
    for clip in CLIPS:
        shutil.copy(clips / clip, videos)
    settings = {"frames": {"frame_rate": 30}}
    stop, killed = threading.Event(), []

    def kill() -> None:
        while len(killed) < 4 and not stop.wait(1.5):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if "spark_trainer.system.workers" in " ".join(child.cmdline()):
                        child.send_signal(signal.Signals[by])
                        killed.append(child.pid)
                        break

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for _ in range(8):
            with contextlib.suppress(MachineError):
                built = build("frames", "audio", **settings)
                break
    finally:
        stop.set()
        killer.join()
    assert killed
    for clip in CLIPS:
        with av.open(str(clips / clip)) as container:
            count = sum(1 for _ in container.decode(container.streams.video[0]))
        record = built.record(clip, "frames")
        assert (record["status"], len(built.frames(clip))) == ("ok", len(record["times"]))
        assert len(record["times"]) == pytest.approx(min(count, record["duration"] * 30), abs=2)
        assert "damaged" not in record
        audio = built.record(clip, "audio")
        assert audio["status"] == ("none" if clip == "bunny.mp4" else "ok")
