"""Which files are opened at all, and what is said of the others."""

import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spark_trainer.media.source import Unreadable, opened
from tests import ffmpeg

CLIPS = Path(__file__).parents[2] / "config/demo/clips"


@pytest.mark.parametrize(
    ("clip", "codec", "size", "fps", "duration", "sounds"),
    [
        ("bunny.mp4", "h264", (640, 360), 25.0, 5.28, 0),
        ("cup.mp4", "h264", (480, 360), 26.777, 8.104, 1),
        ("hello.mpeg", "mpeg2video", (320, 240), 29.97, 8.136, 1),
    ],
)
def test_a_file_tells_what_it_holds(
    clip: str, codec: str, size: tuple[int, int], fps: float, duration: float, sounds: int
) -> None:
    with opened(CLIPS / clip) as source:
        stream = source.video
        assert (stream.codec_context.name, stream.width, stream.height) == (codec, *size)
        assert float(stream.average_rate) == pytest.approx(fps, abs=0.01)
        assert source.duration == pytest.approx(duration, abs=0.01)
        assert len(source.container.streams.audio) == sounds
        assert source.complaint(stream) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"text\n" * 99, "not a video: a text file"),
        (b"ffconcat version 1.0\nfile 'pipe'\n", "not a video: a text file"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\na.ts\n", "not a video: a text file"),
        (bytes(999), "not readable as media: Invalid data"),
        (b"%PDF-1.7\n" + bytes(range(256)) * 9, "not readable as media: Invalid data"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, "a still picture, not a video"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_reason(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=reason), opened(path):
        pass


def test_a_list_of_files_opens_none_of_them(tmp_path: Path) -> None:
    """A pipe beside it that nobody writes to would hang whoever opened it."""
    os.mkfifo(tmp_path / "pipe")
    for name, text in {
        "a.ffconcat": "ffconcat version 1.0\nfile pipe\n",
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\npipe\n",
        "a.mpd": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(Unreadable), opened(tmp_path / name):
            pass
    with pytest.raises(Unreadable, match="not a regular file"), opened(tmp_path / "pipe"):
        pass


def test_a_name_decides_nothing(tmp_path: Path) -> None:
    for name in ("a.srt", "a.txt", "a"):
        path = tmp_path / name
        path.write_bytes((CLIPS / "dog.mp4").read_bytes())
        with opened(path) as source:
            assert source.video.width == 854


READS = """
import sys
from pathlib import Path
from spark_trainer.media import pictures
from spark_trainer.media.source import opened
try:
    with opened(Path(sys.argv[1])) as source:
        list(pictures.read(source))
except OSError as error:
    print(error.errno)
"""


def test_trouble_of_the_disk_keeps_its_number(tmp_path: Path) -> None:
    path = tmp_path / "gone.mp4"
    ran = subprocess.run(
        [sys.executable, "-c", READS, path], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == [str(errno.ENOENT)]
    path.touch()
    path.chmod(0)
    if os.geteuid():
        with pytest.raises(PermissionError), opened(path):
            pass


def test_a_clock_that_jumps_ahead_or_back_goes_on(tmp_path: Path) -> None:
    """Parts of a recording whose clocks start anew: 5 s, then 3 s back, then 100 s ahead."""
    from spark_trainer.media import pictures

    parts = [
        ffmpeg.make(
            tmp_path / f"{number}.ts",
            *("-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=5", "-f", "lavfi", "-i", "sine=d=5"),
            *("-c:v", "libx264", "-bf", "2", "-c:a", "aac", "-output_ts_offset", str(offset)),
        )
        for number, offset in enumerate((10, 7, 110))
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with opened(path) as source:
        times = [picture.time for picture in pictures.read(source)]
    assert len(times) == 150
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(0 < step < 0.5 for step in steps)
    assert times[-1] - times[0] == pytest.approx(14.9, abs=0.3)
