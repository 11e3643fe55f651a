"""Files with bytes changed at random: no hang, no crash of ours, no frame that is none."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spark_trainer.config import Audio, Frames
from spark_trainer.errors import Refused
from spark_trainer.media import motion
from spark_trainer.steps import audio, frames
from spark_trainer.system.workers import Limits, Workers
from tests import ffmpeg
from tests.media import images_at

FILES = 2000
SLOWEST_S = 30.0
LIMITS = Limits(cpu_s=10.0, memory_gb=1.0)
SECONDS, SIZE = 2, (64, 48)
MPEG2 = ("-c:v", "mpeg2video", "-c:a", "mp2")
KINDS: dict[str, tuple[str, ...]] = {
    "a.mp4": ("-c:v", "libx264", "-bf", "2", "-g", "9"),
    "fast.mp4": ("-c:v", "libx265", "-x265-params", "log-level=none", "-movflags", "+faststart"),
    "fragments.mp4": ("-c:v", "libx264", "-movflags", "+frag_keyframe+empty_moov"),
    "a.mov": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "a.mkv": ("-c:v", "libx264", "-bf", "2"),
    "a.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"),
    "a.avi": ("-c:v", "mpeg4", "-bf", "2", "-c:a", "libmp3lame"),
    "a.ts": ("-c:v", "libx264", "-bf", "2"),
    "a.mpg": MPEG2,
    "a.flv": ("-c:v", "flv1", "-c:a", "libmp3lame", "-ar", "44100"),
    "a.wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
    "a.ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
    "a.gif": ("-an",),
    "a.mxf": ("-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-ar", "48000"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A sound file of each container."""
    folder = tmp_path_factory.mktemp("whole")
    video = f"testsrc=s={SIZE[0]}x{SIZE[1]}:r=25:d={SECONDS},format=yuv420p"
    sources = ("-f", "lavfi", "-i", video, "-f", "lavfi", "-i", f"sine=d={SECONDS}")
    return {
        name: ffmpeg.make(folder / name, *sources, *codecs).read_bytes()
        for name, codecs in KINDS.items()
    }


def mutated(data: bytes, draw: random.Random) -> bytes:
    """One to eight changes, in the first kilobyte more often than elsewhere."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        span = min(len(out), 1024 if draw.random() < 0.5 else len(out))
        place = draw.randrange(max(1, span))
        length = draw.choice((1, 2, 4, 8, 64, 512))
        match draw.randrange(7):
            case 0:
                out[place] ^= 1 << draw.randrange(8)
            case 1:
                out[place : place + length] = draw.randbytes(length)
            case 2:
                out[place : place + length] = bytes(length)
            case 3:
                out[place : place + length] = b"\xff" * length
            case 4:
                del out[place : place + length]
            case 5:
                out[place:place] = out[place : place + length]
            case 6:
                del out[max(16, draw.randrange(len(out))) :]
        if not out:
            break
    return bytes(out)


def cases(whole: dict[str, bytes], folder: Path) -> Iterator[tuple[int, Path]]:
    """The files, written as they are asked for."""
    for number, (name, data) in zip(range(FILES), itertools.cycle(whole.items()), strict=False):
        path = folder / f"{number}-{name}"
        path.write_bytes(mutated(data, random.Random(number)))
        yield number, path


def check_frames(number: int, path: Path, folder: Path, facts: dict[str, Any]) -> None:
    """Times ascend, each has its file, and the frame at a time is that of its file."""
    times, files = facts["times"], sorted(folder.iterdir())
    assert len(times) == len(files) > 0
    assert all(0 <= earlier < later for earlier, later in itertools.pairwise(times))
    assert times[-1] < facts["duration"] < 4 * 3600
    with Image.open(files[0]) as image:
        assert image.size == (facts["width"], facts["height"])
        image.load()
    if number % 10 == 0:
        middle = len(times) // 2
        [shown] = images_at(path, [times[middle]])
        with Image.open(files[middle]) as image:
            assert image.size == shown.size
            apart = motion.between(motion.cells(image), motion.cells(shown))
        assert apart < 4, (path.name, times[middle], apart)


@pytest.mark.long
def test_two_thousand_mutated_files(whole: dict[str, bytes], tmp_path: Path) -> None:
    ends: Counter[str] = Counter()
    reasons: list[str] = []

    def one(case: tuple[int, Path]) -> None:
        number, path = case
        folder, wav = tmp_path / f"{number}.frames", tmp_path / f"{number}.wav"
        folder.mkdir()
        began = time.monotonic()
        try:
            settings = Frames(frame_rate=5.0, max_frames=500)
            facts = workers.call(frames.EXTRACT, *frames.arguments(path, folder, settings))
            ends["damaged" if "damaged" in facts else "ok"] += 1
            check_frames(number, path, folder, facts)
        except Refused as reason:
            ends["rejected"] += 1
            reasons.append(str(reason))
        try:
            if tracks := workers.call(audio.TRACKS, str(path)):
                limits = (16000, 1, Audio().max_silence_s)
                heard = workers.call(audio.WRITE, str(path), tracks[0]["track"], str(wav), *limits)
                assert 0 < heard["duration"] < Audio().max_silence_s + 600
        except Refused as reason:
            reasons.append(str(reason))
        took = time.monotonic() - began
        assert took < SLOWEST_S, (path.name, took)
        for file in (*folder.iterdir(), wav, path):
            file.unlink(missing_ok=True)

    with Workers(2, LIMITS, "frames") as workers, ThreadPoolExecutor(2) as pool:
        for _ in pool.map(one, cases(whole, tmp_path)):
            pass
    assert all(reason and str(tmp_path) not in reason for reason in reasons)
    assert ends["ok"] > 100
    assert ends["rejected"] > 100
