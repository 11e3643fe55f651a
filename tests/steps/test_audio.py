"""The audio files: format, track, clock, and what is said where there is none."""

import shutil
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spark_trainer.steps import audio

Build = Callable[..., "Built"]  # noqa: F821  # tests/steps/conftest.py
Encode = Callable[..., Path]

TONE = "sine=frequency={}:duration=2:sample_rate=44100"


def samples(wav: Path) -> tuple[int, np.ndarray]:
    """Rate and samples (N, channels) of a 16-bit WAV."""
    with wave.open(str(wav), "rb") as file:
        assert file.getsampwidth() == 2
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return file.getframerate(), data.reshape(-1, file.getnchannels())


def pitch_hz(wav: Path) -> float:
    """The strongest frequency."""
    rate, data_NC = samples(wav)
    spectrum = np.abs(np.fft.rfft(data_NC[:, 0].astype(float)))
    return float(spectrum.argmax() * rate / len(data_NC))


def two_tracks(encode: Encode, *arguments: str) -> None:
    """A video with a 300 Hz and a 700 Hz track."""
    encode(
        *("tones.mkv", "-f", "lavfi", "-i", TONE.format(300), "-f", "lavfi"),
        *("-i", TONE.format(700), "-t", "2", "-i", "bunny.mp4", "-map", "2:v", "-map", "0:a"),
        *("-map", "1:a", "-c:v", "copy", "-c:a", "flac", *arguments),
    )


def test_audio_is_16_khz_mono_s16(demo: "Built") -> None:  # noqa: F821
    for name in ("cup.mp4", "dog.mp4", "hello.mpeg", "globe-reading.mp4", "title.mp4"):
        rate, data_NC = samples(demo.audio(name))
        record = demo.record(name, "audio")
        assert (rate, data_NC.shape[1]) == (16000, 1)
        assert record["duration"] == pytest.approx(len(data_NC) / rate, abs=1e-6)
        frames = demo.record(name, "frames")
        assert record["duration"] == pytest.approx(frames["duration"], abs=0.15)


def test_rate_and_channels_are_settings(build: Build, videos: Path, clips: Path) -> None:
    shutil.copy(clips / "dog.mp4", videos)
    built = build("audio", audio={"sample_rate": 8000, "channels": 2})
    rate, data_NC = samples(built.audio("dog.mp4"))
    assert (rate, data_NC.shape[1]) == (8000, 2)
    assert built.record("dog.mp4", "audio")["duration"] == pytest.approx(1.6, abs=0.01)


def test_audio_is_the_same_bytes_when_made_twice(build: Build, videos: Path, clips: Path) -> None:
    shutil.copy(clips / "hello.mpeg", videos)
    built = build("audio")
    first = built.audio("hello.mpeg").read_bytes()
    built.audio("hello.mpeg").unlink()
    assert build("audio").audio("hello.mpeg").read_bytes() == first


@pytest.mark.parametrize(
    ("flags", "track", "expected_hz"),
    [
        (("-disposition:a:0", "0", "-disposition:a:1", "default"), "default", 700),
        (("-disposition:a:0", "default", "-disposition:a:1", "0"), "default", 300),
        (("-disposition:a", "0", "-default_mode", "passthrough"), "default", 300),
        ((), 0, 300),
        ((), 1, 700),
    ],
)
def test_the_chosen_track_is_the_flagged_one_else_the_first(
    flags: tuple[str, ...], track: str | int, expected_hz: float, build: Build, encode: Encode
) -> None:
    two_tracks(encode, *flags)
    built = build("audio", audio={"track": track})
    assert pitch_hz(built.audio("tones.mkv")) == pytest.approx(expected_hz, abs=2)
    assert built.record("tones.mkv", "audio")["track"] == (expected_hz == 700)


def test_a_track_that_is_not_there_is_reported(build: Build, encode: Encode) -> None:
    two_tracks(encode)
    built = build("audio", audio={"track": 2})
    record = built.record("tones.mkv", "audio")
    assert record["status"] == "none"
    assert record["reason"] == "audio.track is 2, the file has 2"
    assert not built.audio("tones.mkv").exists()


def test_a_track_is_found_by_its_language(build: Build, encode: Encode) -> None:
    labels = ("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=ger")
    two_tracks(encode, *labels)
    built = build("audio", audio={"track": "ger"})
    record = built.record("tones.mkv", "audio")
    assert pitch_hz(built.audio("tones.mkv")) == pytest.approx(700, abs=2)
    assert (record["track"], record["track_language"]) == (1, "ger")
    assert [(t["track"], t["codec"], t["language"]) for t in record["tracks"]] == [
        (0, "flac", "eng"),
        (1, "flac", "ger"),
    ]
    absent = build("audio", audio={"track": "fra"}).record("tones.mkv", "audio")
    assert absent["reason"] == "audio.track is fra, the file has eng, ger"


def test_other_tracks_are_kept_when_asked_for_and_only_then(build: Build, encode: Encode) -> None:
    two_tracks(encode)
    kept = build("audio", audio={"other_tracks": True})
    layout, video = kept.index.layout, kept.video("tones.mkv")
    assert pitch_hz(audio.wav(layout, video)) == pytest.approx(300, abs=2)
    assert pitch_hz(audio.track(layout, video, 1)) == pytest.approx(700, abs=2)
    assert kept.record("tones.mkv", "audio")["others"][0]["track"] == 1
    audio.track(layout, video, 1).unlink()
    build("audio", audio={"other_tracks": True})
    assert audio.track(layout, video, 1).exists()
    build("audio", audio={"other_tracks": True, "track": 1})
    assert [path.name for path in audio.tracks(layout, video)] == ["audio.0.wav"]
    build("audio")
    assert audio.tracks(layout, video) == []


def test_audio_may_be_stream_0(build: Build, encode: Encode) -> None:
    copy = ("-map", "0:a", "-map", "0:v", "-c", "copy")
    encode("audio-first.mkv", "-i", "globe-reading.mp4", *copy)
    built = build("frames", "audio")
    assert built.record("audio-first.mkv", "audio")["duration"] == pytest.approx(7.1, abs=0.1)
    assert len(built.frames("audio-first.mkv")) == 8


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "mpg"])
def test_late_audio_is_padded_to_the_video_s_clock(
    ending: str, build: Build, encode: Encode
) -> None:
    codecs = ("-c:v", "mpeg2video", "-c:a", "mp2") if ending == "mpg" else ("-c", "copy")
    late = ("-itsoffset", "1.5", "-i", "globe-reading.mp4")
    name = f"late.{ending}"
    encode(name, "-i", "globe-reading.mp4", *late, "-map", "0:v", "-map", "1:a", *codecs)
    encode("plain.mkv", "-i", "globe-reading.mp4", "-c", "copy")
    built = build("audio")
    loud = {
        n: np.flatnonzero(np.abs(samples(built.audio(n))[1][:, 0].astype(int)) > 2000)[0] / 16000
        for n in (name, "plain.mkv")
    }
    assert loud[name] - loud["plain.mkv"] == pytest.approx(1.5, abs=0.05)


def test_a_video_without_audio_says_so(demo: "Built") -> None:  # noqa: F821
    record = demo.record("bunny.mp4", "audio")
    assert (record["status"], record["why"]) == ("none", "no audio stream")
    assert not demo.audio("bunny.mp4").exists()


def test_digital_silence_has_no_peak(demo: "Built") -> None:  # noqa: F821
    assert demo.record("title.mp4", "audio")["peak_db"] is None
    _, data_NC = samples(demo.audio("cup.mp4"))
    expected_db = 20 * np.log10(np.abs(data_NC.astype(int)).max() / 32768)
    assert demo.record("cup.mp4", "audio")["peak_db"] == pytest.approx(expected_db, abs=0.01)


def test_a_track_without_a_packet_says_so(build: Build, encode: Encode) -> None:
    encode("hollow.mkv", "-i", "cup.mp4", "-c", "copy", "-bsf:a", "noise=drop=1")
    built = build("audio")
    record = built.record("hollow.mkv", "audio")
    assert record["status"] == "none"
    assert record["reason"] == "no decodable audio: the audio stream is empty"
    assert not built.audio("hollow.mkv").exists()


def test_cut_audio_is_used_in_part_and_marked(build: Build, encode: Encode) -> None:
    path = encode("cut.mp4", "-i", "cup.mp4", "-c", "copy", "-movflags", "+faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    record = build("audio").record("cut.mp4", "audio")
    assert record["status"] == "ok"
    assert record["reason"].startswith("damaged: the file is cut short: ")
    assert 2 < record["duration"] < 6


def test_sides_that_cancel_out_are_no_silence(build: Build, encode: Encode) -> None:
    """A cable with crossed wires: what one side adds the other takes away."""
    crossed = "aevalsrc='0.5*sin(880*PI*t)|-0.5*sin(880*PI*t)':d=3:s=44100"
    for name, codec in {"a.mp4": "aac", "a.mkv": "pcm_s16le"}.items():
        encode(name, "-f", "lavfi", "-i", crossed, "-t", "3", "-i", "bunny.mp4", "-c:a", codec)
    encode("silent.mp4", "-f", "lavfi", "-i", "anullsrc", "-t", "3", "-i", "bunny.mp4", "-shortest")
    built = build("audio")
    for name in ("a.mp4", "a.mkv"):
        record = built.record(name, "audio")
        assert record["one_side"] is True
        assert record["peak_db"] == pytest.approx(-6, abs=1)
        assert pitch_hz(built.audio(name)) == pytest.approx(440, abs=2)
        assert record["duration"] == pytest.approx(3, abs=0.1)
    assert built.record("silent.mp4", "audio")["peak_db"] is None
    assert "one_side" not in built.record("silent.mp4", "audio")


@pytest.mark.parametrize(("late_s", "status"), [(3, "ok"), (20, "none")])
def test_silence_is_bounded_by_the_settings(
    late_s: int, status: str, build: Build, encode: Encode
) -> None:
    tone = ("-itsoffset", str(late_s), "-f", "lavfi", "-i", TONE.format(300))
    encode("late.mp4", "-t", "2", "-i", "bunny.mp4", *tone, "-map", "0:v", "-map", "1:a")
    built = build("audio", audio={"max_silence_s": 10})
    record = built.record("late.mp4", "audio")
    assert record["status"] == status
    assert built.audio("late.mp4").exists() == (status == "ok")
    if status == "none":
        assert record["reason"] == (
            "its time stamps ask for 20 s of silence, more than audio.max_silence_s = 10"
        )


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "7.1", "quad"])
def test_any_layout_is_mixed_down_and_as_long_as_it_was(
    layout: str, build: Build, encode: Encode
) -> None:
    sound = f"sine=frequency=300:duration=2:sample_rate=48000,aformat=channel_layouts={layout}"
    encode("a.mkv", "-f", "lavfi", "-i", sound, "-t", "2", "-i", "bunny.mp4", "-c:a", "flac")
    built = build("audio")
    assert built.record("a.mkv", "audio")["duration"] == pytest.approx(2, abs=0.01)
    assert pitch_hz(built.audio("a.mkv")) == pytest.approx(300, abs=2)


def test_a_part_before_the_first_picture_keeps_its_place(build: Build, encode: Encode) -> None:
    """Sound that starts first: the clock starts with it, and the frames come later."""
    late = ("-itsoffset", "1.5", "-i", "bunny.mp4")
    encode("a.mkv", "-f", "lavfi", "-i", TONE.format(300), *late, "-map", "0:a", "-map", "1:v")
    built = build("frames", "audio")
    assert built.record("a.mkv", "audio")["duration"] == pytest.approx(2, abs=0.05)
    assert built.record("a.mkv", "frames")["times"][0] == pytest.approx(1.5, abs=0.05)
