"""FFmpeg: which binary runs, what a file holds, and one call with its complaints collected."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

# Formats in which a "video" names other files or is no recording at all.
REFUSED_FORMATS = {"hls", "concat", "dash", "tty", "imf", "ffmetadata", "srt", "webvtt", "ass"}

# FFmpeg's words that need a few more.
EXPLAINED = {"moov atom not found": "moov atom not found: the file is cut short, or is no MP4"}

_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")

# What follows when nothing was decoded, never its cause.
_CONSEQUENCES = re.compile(
    "Cannot determine format of input|Task finished with error|Terminating thread"
    "|Could not open encoder before EOF|Nothing was written"
)
_SPEAKER = re.compile(r"^\[([^\]]+)\] ")


class MediaError(ValueError):
    """A file that can't be used; the message is the reason that users read."""


@dataclass(frozen=True)
class AudioTrack:
    """One audio stream; `number` counts audio streams from 0, `late` is as in `Probe`."""

    number: int
    codec: str
    default: bool
    language: str | None
    late: float


@dataclass(frozen=True)
class Probe:
    """What the container says: durations in seconds, sizes in coded pixels before rotation.

    `late` is how long after the container's start the video starts, in the formats where FFmpeg
    forgets that when it reads the stream alone: to be given back as `-itsoffset`.
    `cut` says how the file shows that its end is missing; None where it shows no such thing.
    """

    format: str
    duration: float | None
    width: int
    height: int
    fps: float | None
    video_codec: str | None
    late: float
    audio: tuple[AudioTrack, ...]
    cut: str | None


@cache
def binary() -> str:
    """The FFmpeg that is used: the system's own, else the one in the `imageio-ffmpeg` wheel.

    Raises:
        RuntimeError: there is neither.
    """
    if system := shutil.which("ffmpeg"):
        return system
    try:
        import imageio_ffmpeg
    except ImportError:
        raise RuntimeError(
            "no FFmpeg: install imageio-ffmpeg, or run scripts/install_ffmpeg.sh"
        ) from None
    return str(imageio_ffmpeg.get_ffmpeg_exe())


@cache
def version() -> str:
    """The first line of `ffmpeg -version`, without the copyright."""
    output = subprocess.run([binary(), "-version"], capture_output=True, text=True, check=True)
    return output.stdout.splitlines()[0].partition(" Copyright")[0]


def codecs() -> set[str]:
    """Names of the codecs that the binary decodes."""
    output = subprocess.run(
        [binary(), "-hide_banner", "-decoders"], capture_output=True, text=True, check=True
    )
    rows = output.stdout.partition("------")[2].splitlines()
    return {row.split()[1] for row in rows if len(row.split()) > 1}


def probe(path: Path) -> Probe:
    """Read the container's headers.

    Raises:
        MediaError: the file is empty, or is no media file that FFmpeg understands.
    """
    import av

    size = path.stat().st_size
    if size == 0:
        raise MediaError("empty file")
    local = {"protocol_whitelist": "file"}
    try:
        with av.open(os.fspath(path), metadata_errors="replace", options=local) as container:
            names = set(container.format.name.split(","))
            if names & REFUSED_FORMATS:
                raise MediaError(f"not a video: {container.format.long_name}")
            return _describe(container, _cut(container, path, size))
    except (av.error.FFmpegError, OSError) as error:
        reason = _unreadable(path) or error.strerror or str(error)
    raise MediaError(reason)


def _unreadable(path: Path) -> str | None:
    """Why a file can't be opened, in FFmpeg's own words unless it is plain text."""
    with open(path, "rb") as file:
        head = file.read(512)
    if all(byte >= 32 or byte in b"\t\n\f\r" for byte in head):
        return "not a video: a text file"
    opened = run(
        ["-protocol_whitelist", "file", "-i", f"file:{path}", "-t", "0", "-f", "null", "-"]
    )
    said = [_SPEAKER.sub("", line) for line in opened.complaints]
    said = [line.removeprefix("Error opening input: ") for line in said]
    return f"not readable as media: {EXPLAINED.get(said[0], said[0])}" if said else None


def _cut(container, path: Path, size: int) -> str | None:  # type: ignore[no-untyped-def]
    """How the file shows that its end is missing.

    Three signs that no whole file has: the index points past the end (MP4, MOV), the RIFF header
    promises more (AVI), the last packet of a transport stream is incomplete.
    """
    indexes = [stream.index_entries for stream in container.streams]
    last = [entries[len(entries) - 1] for entries in indexes if len(entries)]
    needed = max((entry.pos + entry.size for entry in last), default=0)
    with open(path, "rb") as file:
        head = file.read(200)
    if container.format.name == "avi":
        needed = 8 + int.from_bytes(head[4:8], "little")
    if needed > size:
        return f"the file is cut short: {size} of {needed} bytes are there"
    if container.format.name == "mpegts":
        for packet, start in ((188, 0), (192, 4)):
            if head[start] == head[start + packet] == 0x47 and size % packet:
                return "the file is cut short: its last transport packet is incomplete"
    return None


def _describe(container, cut: str | None) -> Probe:  # type: ignore[no-untyped-def]  # av has no stubs
    from av.stream import Disposition

    cover = Disposition.attached_pic
    videos = [stream for stream in container.streams.video if not stream.disposition & cover]
    tracks = tuple(
        AudioTrack(
            number,
            stream.codec_context.name if stream.codec_context else "unknown",
            bool(stream.disposition & Disposition.default),
            stream.language,
            _late(container, stream),
        )
        for number, stream in enumerate(container.streams.audio)
    )
    duration = container.duration / 1e6 if container.duration else None
    if not videos:
        return Probe(container.format.name, duration, 0, 0, None, None, 0.0, tracks, cut)
    video = videos[0]
    context = video.codec_context
    rate = video.average_rate
    return Probe(
        container.format.name,
        duration,
        context.width if context else 0,
        context.height if context else 0,
        float(rate) if rate else None,
        context.name if context else "unknown",
        _late(container, video),
        tracks,
        cut,
    )


def _late(container, stream) -> float:  # type: ignore[no-untyped-def]
    """Seconds that FFmpeg drops in front of a stream it reads alone (AVFMT_TS_DISCONT)."""
    from av.format import Flags

    if not container.format.flags & Flags.ts_discont.value or stream.start_time is None:
        return 0.0
    start = float(stream.start_time * stream.time_base) - (container.start_time or 0) / 1e6
    return max(0.0, round(start, 6))


@dataclass(frozen=True)
class Result:
    """What a finished FFmpeg call printed: its output, and its distinct complaints in order."""

    output: str
    complaints: tuple[str, ...]
    failed: bool

    def complaint(self, codec: str, others: set[str]) -> str | None:
        """The first complaint, left out those of the decoders of other streams.

        FFmpeg decodes a little of every stream to learn what it is, so broken audio speaks up
        where only the video was asked for.
        """
        for line in self.complaints:
            speaker = _SPEAKER.match(line)
            of_others = speaker and speaker[1] != codec and speaker[1] in others
            if not of_others and not _CONSEQUENCES.search(line):
                return line
        return None


def run(arguments: list[str], timeout_s: float | None = None) -> Result:
    """Run FFmpeg on one core without a shell; decoding errors come back, they don't raise.

    Raises:
        OSError: FFmpeg's own trouble with the disk (no space), which is no fault of the video.
    """
    process = subprocess.run(
        [binary(), "-hide_banner", "-nostdin", "-loglevel", "error", *arguments],
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    lines = _ADDRESS.sub("", process.stderr.decode("utf-8", "replace")).splitlines()
    if full := [line for line in lines if "No space left on device" in line]:
        raise OSError(full[0])
    complaints = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    output = process.stdout.decode("utf-8", "replace")
    return Result(output, complaints, process.returncode != 0)


def peak_db(wav: Path) -> float | None:
    """Peak of a 16-bit PCM WAV in dBFS; None for digital silence. Memory stays flat."""
    import wave

    peak = 0
    with wave.open(os.fspath(wav), "rb") as file:
        while chunk := file.readframes(1 << 20):
            peak = max(peak, int(np.abs(np.frombuffer(chunk, "<i2").astype(np.int32)).max()))
    return round(20 * float(np.log10(peak / 32768)), 2) if peak else None
