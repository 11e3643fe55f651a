"""A sound track on the pictures' clock: silence where it starts late or pauses, in one WAV file."""

import errno
import itertools
import os
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_trainer.media.source import Source, Unreadable, codec_name, converting, opened
from spark_trainer.system import workers

BYTES = 2  # of a sample of one channel
HEADER_BYTES = 44
MAX_BYTES = 2**32 - 4096  # of a WAV file, whose header counts in 32 bits
CANCELLED = 0.02  # share of the louder side's level below which the sides have cancelled out
STRETCH = "async=1:first_pts=0"  # FFmpeg fills gaps of more than 0.1 s and cuts what overlaps


def tracks(path: str) -> list[dict[str, Any]]:
    """List the sound tracks of a video, in the file's order.

    Raises:
        Unreadable: the file is no video and no sound.
        OSError: it can't be read.
    """
    from av.stream import Disposition

    with opened(Path(path)) as source:
        return [
            {
                "track": number,
                "codec": codec_name(stream),
                "language": stream.language,
                "default": bool(stream.disposition & Disposition.default),
            }
            for number, stream in enumerate(source.container.streams.audio)
        ]


def write_wav(
    path: str, track: int, target: str, rate: int, channels: int, max_silence_s: float
) -> dict[str, Any]:
    """Write a sound track as 16-bit PCM, in constant memory.

    Args:
        path: the video.
        track: number of the sound track, from 0.
        target: the WAV file to write.
        rate: samples per second.
        channels: 1 mixes the two sides down, 2 gives stereo.
        max_silence_s: most seconds of silence that late or jumping time stamps may ask for.

    Returns:
        `duration` in seconds, `peak_db` in dBFS (None for digital silence), `one_side` where the
        two sides cancel out, so that only one was kept, and `damaged` with what can't be decoded.

    Raises:
        Unreadable: nothing of the track can be decoded, or it asks for too much silence.
        OSError: the disk fails, or the file is not as long as what was written to it.
    """
    done = _write(path, track, target, rate, channels, max_silence_s, None)
    if done.cancelled:
        done = _write(path, track, target, rate, channels, max_silence_s, done.louder)
    size, expected = os.stat(target).st_size, HEADER_BYTES + done.samples * channels * BYTES
    if size != expected:
        raise OSError(errno.EIO, f"{size} of {expected} bytes are there", target)
    facts = {
        "duration": round(done.samples / rate, 6),
        "peak_db": round(20 * float(np.log10(done.peak / 32768)), 2) if done.peak else None,
    }
    facts |= {"one_side": True} if done.side is not None else {}
    return facts | ({"damaged": done.complaint} if done.complaint else {})


@dataclass
class _Pass:
    """The measures of one pass over a track; `side` is 0 or 1 where only that side is kept."""

    side: int | None
    samples: int = 0
    peak: int = 0
    complaint: str | None = None
    mixed: float = 0.0  # sums of squares
    left: float = 0.0
    right: float = 0.0

    @property
    def cancelled(self) -> bool:
        """Tell whether the mix of the two sides has lost their sound."""
        return self.side is None and self.mixed < CANCELLED**2 * max(self.left, self.right)

    @property
    def louder(self) -> int:
        """Return the side to keep alone."""
        return int(self.right > self.left)

    def measured(self, stereo_N2: NDArray[np.int16], channels: int) -> NDArray[np.int16]:
        """Return the samples to write, (N, channels), and note their measures."""
        wide = stereo_N2.astype(np.float64)
        mix = wide.mean(axis=1)
        self.left += float(wide[:, 0] @ wide[:, 0])
        self.right += float(wide[:, 1] @ wide[:, 1])
        if channels == 2:
            out = stereo_N2
            self.mixed = max(self.left, self.right)
        elif self.side is None:
            out = np.rint(mix).astype(np.int16)[:, None]
            self.mixed += float(mix @ mix)
        else:
            out = stereo_N2[:, self.side : self.side + 1]
        self.samples += len(out)
        self.peak = max(self.peak, int(np.abs(out.astype(np.int32)).max(initial=0)))
        return out


def _write(
    path: str,
    track: int,
    target: str,
    rate: int,
    channels: int,
    silence_s: float,
    side: int | None,
) -> _Pass:
    done = _Pass(side)
    with opened(Path(path)) as source, open(target, "wb") as file, wave.open(file) as out:
        out.setparams((channels, BYTES, rate, 0, "NONE", ""))
        stream = source.container.streams.audio[track]
        if stream.codec_context is None:
            raise Unreadable(f"no decoder for its sound ({source.format})")
        for stereo_N2 in _resampled(source, stream, rate, silence_s):
            out.writeframesraw(done.measured(stereo_N2, channels).tobytes())
            if done.samples * channels * BYTES > MAX_BYTES:
                raise Unreadable(f"longer than a WAV file holds at {rate} samples per second")
        done.complaint = source.complaint(stream)
        if not done.samples:
            raise Unreadable(f"no decodable audio: {done.complaint or 'the audio stream is empty'}")
        out.close()
        file.flush()
        os.fsync(file.fileno())
    return done


def _resampled(
    source: Source, stream: Any, rate: int, silence_s: float
) -> Iterator[NDArray[np.int16]]:
    """Yield samples (N, 2) from the file's origin on.

    A track may change its rate or its channels on the way; each part has filters of its own.
    """
    graph, shape = None, None
    for frame in _on_clock(source, stream, silence_s):
        own = (frame.format.name, frame.layout.name, frame.sample_rate)
        if graph is not None and own != shape:
            yield from _pulled(graph, None)
            graph = None
        if graph is None:
            with converting("its sound"):
                graph, shape = _graph(*own, rate, first=shape is None), own
        yield from _pulled(graph, frame)
    if graph is not None:
        yield from _pulled(graph, None)


def _graph(form: str, layout: str, own_rate: int, rate: int, first: bool) -> Any:
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    base = Fraction(1, own_rate)
    ends = [
        graph.add_abuffer(format=form, layout=layout, sample_rate=own_rate, time_base=base),
        graph.add("aresample", f"{rate}:{STRETCH if first else 'async=1'}"),
        graph.add("aformat", f"sample_fmts=s16:sample_rates={rate}:channel_layouts=stereo"),
        graph.add("abuffersink"),
    ]
    for before, after in itertools.pairwise(ends):
        before.link_to(after)
    graph.configure()
    return graph


def _pulled(graph: Any, frame: Any) -> Iterator[NDArray[np.int16]]:
    """Give the filters a frame, or None for the end, and yield what they return."""
    import av

    with converting("its sound"):
        graph.push(frame)
        while True:
            try:
                samples: NDArray[np.int16] = graph.pull().to_ndarray()
            except (BlockingIOError, av.error.EOFError):
                return
            yield samples.reshape(-1, 2)


def _on_clock(source: Source, stream: Any, silence_s: float) -> Iterator[Any]:
    """Yield decoded frames with their time since the origin.

    Raises:
        Unreadable: there is too much silence between them.
    """
    due, silent = 0.0, 0.0
    for frame, _ in source.decoded(stream):
        if frame.samples == 0 or not frame.sample_rate:
            continue
        time = due
        if frame.pts is not None:
            time = float(frame.pts * stream.time_base) - source.origin
        silent += max(0.0, time - due)
        if silent > silence_s:
            raise Unreadable(
                f"its time stamps ask for {silent:.0f} s of silence, more than "
                f"audio.max_silence_s = {silence_s:g}"
            )
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = round(time * frame.sample_rate)
        yield frame
        workers.spend(frame.samples / frame.sample_rate)
        due = max(due, time + frame.samples / frame.sample_rate)
