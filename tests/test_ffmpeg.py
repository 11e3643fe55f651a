"""What a file's headers say, and FFmpeg's words about what is wrong."""

import subprocess
from pathlib import Path

import pytest

from spark_trainer import ffmpeg

CLIPS = Path(__file__).parents[1] / "config/demo/clips"


@pytest.mark.parametrize(
    ("clip", "codec", "size", "fps", "duration", "audio"),
    [
        ("bunny.mp4", "h264", (640, 360), 25.0, 5.28, []),
        ("cup.mp4", "h264", (480, 360), 26.777, 8.104, ["aac"]),
        ("hello.mpeg", "mpeg2video", (320, 240), 29.97, 8.136, ["mp2"]),
    ],
)
def test_probe_reads_the_headers(
    clip: str, codec: str, size: tuple[int, int], fps: float, duration: float, audio: list[str]
) -> None:
    probe = ffmpeg.probe(CLIPS / clip)
    assert (probe.video_codec, probe.width, probe.height) == (codec, *size)
    assert probe.fps == pytest.approx(fps, abs=0.01)
    assert probe.duration == pytest.approx(duration, abs=0.01)
    assert [track.codec for track in probe.audio] == audio
    assert probe.cut is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty file"), (b"text\n" * 99, "text file"), (bytes(999), "moov atom not found")],
)
def test_probe_says_why_a_file_is_no_media(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(ffmpeg.MediaError, match=reason):
        ffmpeg.probe(path)


def test_complaints_come_back_once_and_without_addresses(tmp_path: Path) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(bytes(999))
    result = ffmpeg.run(["-i", str(path), "-f", "null", "-"])
    assert result.failed
    assert "[in#0] moov atom not found" in result.complaints
    assert len(set(result.complaints)) == len(result.complaints)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("[aac] broken", "[h264] bad"), "[h264] bad"),
        (("[aac] broken",), None),
        (("[in#0] cut", "[h264] bad"), "[in#0] cut"),
        (("[vf#0:0] Task finished with error code: -22",), None),
    ],
)
def test_the_complaint_is_about_the_stream(lines: tuple[str, ...], expected: str | None) -> None:
    assert ffmpeg.Result("", lines, failed=False).complaint("h264", {"aac"}) == expected


def test_a_full_disk_is_no_fault_of_the_video() -> None:
    tone = ["-f", "lavfi", "-i", "sine=duration=9", "-f", "wav", "-y", "/dev/full"]
    with pytest.raises(OSError, match="No space left"):
        ffmpeg.run(tone)


@pytest.mark.parametrize(("volume", "peak_db"), [("0.5", -6.02), ("0", None)])
def test_peak_is_in_dbfs(volume: str, peak_db: float | None, tmp_path: Path) -> None:
    wav = tmp_path / "tone.wav"
    source = f"aevalsrc={volume}*sin(2*PI*400*t):s=16000:d=1"
    command = [ffmpeg.binary(), "-v", "error", "-f", "lavfi", "-i", source, str(wav)]
    subprocess.run(command, check=True)
    assert ffmpeg.peak_db(wav) == (peak_db and pytest.approx(peak_db, abs=0.05))


def test_the_binary_decodes_what_people_upload() -> None:
    assert {"h264", "hevc", "vp9", "mpeg2video", "aac", "mp3float", "opus"} <= ffmpeg.codecs()
    assert ffmpeg.version().startswith("ffmpeg version ")
