"""A file of video or sound: the demuxers that may open it, its streams, its packets in time."""

import errno
import io
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_trainer.errors import Refused
from spark_trainer.media.clock import CENTURIES_S, Clock, drop_absurd_times

# FFmpeg's names of the formats that cameras, recorders and editors write, sound alone included.
# Any other is refused before it is opened; a playlist, for example, would read other files.
DEMUXERS = (
    "3dostr,4xm,aac,ac3,aiff,amr,amrnb,amrwb,apng,asf,asf_o,au,av1,avi,bink,caf,cavsvideo,dhav,"
    "dirac,dnxhd,dv,dvd,dxa,eac3,f4v,film_cpk,flac,flic,flv,gif,gxf,h261,h263,h264,hevc,ifv,ivf,"
    "ivr,kux,live_flv,lmlm4,m4v,matroska,mgsts,mjpeg,mlv,mov,mp3,mpeg,mpegts,mpegvideo,mtv,mv,mxf,"
    "nsv,nut,nuv,obu,ogg,pmp,pva,r3d,rm,roq,rpl,smjpeg,smk,thp,ty,vc1,vc1test,vivo,vvc,w64,wav,"
    "webm,wtv,wv,xmv,yop,yuv4mpegpipe"
)
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
BUFFER_BYTES = 1 << 18  # read at once; PyAV's default of 32 KiB calls Python eight times as often

RESTARTS_CLOCK = 0x0200  # AVFMT_TS_DISCONT: formats whose time stamps may start again
PAUSE_S = 3600.0  # longest pause between two frames; with a longer one the time stamp is damaged


# Messages of FFmpeg that need an explanation.
EXPLAINED = {"moov atom not found": "moov atom not found: the file is cut short, or is no MP4"}


class Unreadable(Refused):
    """The file can't be used; the message is the reason that users read."""


@dataclass
class Source:
    """An open file.

    `heard` holds FFmpeg's error messages, as (level, component, text). `origin` is the second at
    which the file's clock starts, that of its first picture or sound. `cut` tells how the file
    shows that its end is missing. `entered_at` is the time stamp of the first packet since the
    file was opened, or since a seek.
    """

    path: Path
    container: Any
    heard: list[tuple[int, str, str]]
    origin: float
    cut: str | None
    entered_at: int | None = None

    @property
    def format(self) -> str:
        """Return FFmpeg's name of the container's format, such as `mov,mp4,m4a,3gp,3g2,mj2`."""
        return str(self.container.format.name)

    @property
    def duration(self) -> float | None:
        """Return the duration in seconds that the container claims."""
        return self.container.duration / 1e6 if self.container.duration else None

    @property
    def video(self) -> Any | None:
        """Return the first video stream that is no cover art."""
        return next(iter(_videos(self.container)), None)

    def complaint(self, stream: Any) -> str | None:
        """Return the first message about damage of the file or of a stream; None without damage.

        FFmpeg decodes a little of every stream when it opens a file, so messages about other
        streams are left out.
        """
        if self.cut:
            return self.cut
        others = {codec_name(other) for other in self.container.streams} - {codec_name(stream)}
        said = (f"[{name}] {text.strip()}" for _, name, text in self.heard if name not in others)
        return next(said, None)

    def _complain(self, speaker: str, error: Any) -> None:
        """Note an error of reading; one about memory is raised, as no packet is its cause."""
        if error.errno == errno.ENOMEM:
            raise MemoryError
        self.heard.append((0, speaker, error.strerror))

    def packets(self, stream: Any) -> Iterator[Any]:
        """Yield a stream's packets from the file's position on, then None to flush the decoder.

        Time stamps continue where those of a transport stream start again. All streams together
        show such a jump, so the streams of a file stay on one clock.
        """
        self.entered_at = None
        clock = Clock() if self.container.format.flags & RESTARTS_CLOCK else None
        every = [*_videos(self.container), *self.container.streams.audio]
        for packet in self._demuxed(every if clock else [stream]):
            if clock:
                clock.correct(packet)
            if packet.stream_index == stream.index:
                self.entered_at = packet.pts if self.entered_at is None else self.entered_at
                yield packet
        yield None

    def _demuxed(self, streams: list[Any]) -> Iterator[Any]:
        """Yield packets until the end, or until the container can't be read any further.

        PyAV raises `IndexError` at the end of a file in whose middle a stream began.
        """
        import av

        try:
            for packet in self.container.demux(streams):
                if packet.size:
                    if packet.has_sidedata("encryption_info"):
                        raise Unreadable("it is encrypted, and no key is given to a decoder")
                    drop_absurd_times(packet)
                    yield packet
        except IndexError:
            return
        except av.error.FFmpegError as error:
            self._complain(self.format, error)

    def decoded(self, stream: Any) -> Iterator[tuple[Any, Any]]:
        """Yield frames of a stream, each with the packet that completed it, None at the end.

        A packet that can't be decoded is noted; the next ones may be fine.
        """
        import av

        decoder = _decoder(stream)
        for packet in self.packets(stream):
            try:
                frames = decoder.decode(packet)
            except av.error.FFmpegError as error:
                self._complain(codec_name(stream), error)
                continue
            for frame in frames:
                yield frame, packet


def _decoder(stream: Any) -> Any:
    """Return a stream's decoder: libvpx for an alpha plane, which FFmpeg's own decoders drop."""
    from av import CodecContext

    context = stream.codec_context
    if stream.metadata.get("alpha_mode") != "1" or context.name not in ALPHA_DECODERS:
        return context
    decoder = CodecContext.create(ALPHA_DECODERS[context.name], "r")
    decoder.extradata = context.extradata
    return decoder


def codec_name(stream: Any) -> str:
    """Return FFmpeg's name of a stream's codec; `unknown` where it has no decoder for it."""
    return str(stream.codec_context.name) if stream.codec_context else "unknown"


@contextmanager
def converting(what: str) -> Iterator[None]:
    """Turn FFmpeg's error in a conversion into one that says what can't be converted.

    Raises:
        Unreadable: FFmpeg can't convert it.
    """
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from None
        raise Unreadable(f"{what} can't be converted: {error.strerror}") from None


class _Bytes(io.FileIO):
    """A file's bytes; a seek beyond any file's size is an error of the demuxer, not of the disk."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (OverflowError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            return -1


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a file for reading.

    Python reads the bytes, so an error of the disk is an `OSError` with its number, and no other
    file is ever opened. FFmpeg doesn't get the file's name: only the bytes count.

    Raises:
        Unreadable: the file is empty, or no demuxer of the list can read it.
        OSError: the file can't be opened or read.
    """
    import av
    import av.logging

    logging.getLogger("libav").addHandler(logging.NullHandler())
    logging.getLogger("libav").propagate = False
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    with (
        av.logging.Capture() as heard,
        _Bytes(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)) as file,
    ):
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise Unreadable("not a regular file")
        if state.st_size == 0:
            raise Unreadable("empty file")
        try:
            container = av.open(
                file,
                metadata_errors="replace",
                buffer_size=BUFFER_BYTES,
                options={"format_whitelist": DEMUXERS},
            )
        except av.error.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError from None
            raise Unreadable(_why(path, heard, error)) from None
        with container:
            for stream in container.streams:
                if stream.codec_context:
                    stream.codec_context.thread_count = 1  # the same frames, whatever the machine
            yield Source(path, container, heard, _origin(container), _cut(container, file))


def _videos(container: Any) -> list[Any]:
    from av.stream import Disposition

    cover = Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def _origin(container: Any) -> float:
    """Return the second at which the first picture or sound starts, regardless of subtitles."""
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in (*_videos(container), *container.streams.audio)
        if stream.start_time is not None and abs(stream.start_time * stream.time_base) < CENTURIES_S
    ]
    return min(starts, default=0.0)


def _why(path: Path, heard: list[Any], error: Any) -> str:
    """Tell why a file can't be opened, by FFmpeg's message unless it is plain text."""
    from av import ContainerFormat

    with open(path, "rb") as file:
        head = file.read(512)
    if all(byte >= 32 or byte in b"\t\n\f\r" for byte in head):
        return "not a video: a text file"
    name, text = next(((name, text) for _, name, text in heard), ("", ""))
    if text.startswith("Format not on whitelist"):
        if name.endswith("_pipe"):  # FFmpeg's way to read single pictures
            return "a still picture, not a video"
        return f"not a video: {ContainerFormat(name.partition(',')[0], 'r').long_name}"
    said = text.strip() or str(error.strerror)
    return f"not readable as media: {EXPLAINED.get(said, said)}"


def _cut(container: Any, file: io.FileIO) -> str | None:
    """Tell how the file shows that its end is missing; None where it doesn't.

    There are three signs: the index points past the end (MP4, MOV), the RIFF header names a larger
    size (AVI), the last packet of a transport stream is incomplete.
    """
    size = os.fstat(file.fileno()).st_size
    indexes = [stream.index_entries for stream in container.streams]
    last = [entries[len(entries) - 1] for entries in indexes if len(entries)]
    needed = max((entry.pos + entry.size for entry in last), default=0)
    head = os.pread(file.fileno(), 200, 0)
    if container.format.name == "avi":
        needed = 8 + int.from_bytes(head[4:8], "little")
    if needed > size:
        return f"the file is cut short: {size} of {needed} bytes are there"
    if container.format.name == "mpegts":
        for packet, start in ((188, 0), (192, 4)):
            if head[start : start + packet + 1 : packet] == b"GG" and size % packet:
                return "the file is cut short: its last transport packet is incomplete"
    return None
