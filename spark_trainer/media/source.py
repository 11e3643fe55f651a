"""A file of video or sound: who may open it, what it holds, and its packets on one clock."""

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
# Any other is refused before it is opened: a list of files would read what lies beside it.
DEMUXERS = (
    "3dostr,4xm,aac,ac3,aiff,amr,amrnb,amrwb,apng,asf,asf_o,au,av1,avi,bink,caf,cavsvideo,dhav,"
    "dirac,dnxhd,dv,dvd,dxa,eac3,f4v,film_cpk,flac,flic,flv,gif,gxf,h261,h263,h264,hevc,ifv,ivf,"
    "ivr,kux,live_flv,lmlm4,m4v,matroska,mgsts,mjpeg,mlv,mov,mp3,mpeg,mpegts,mpegvideo,mtv,mv,mxf,"
    "nsv,nut,nuv,obu,ogg,pmp,pva,r3d,rm,roq,rpl,smjpeg,smk,thp,ty,vc1,vc1test,vivo,vvc,w64,wav,"
    "webm,wtv,wv,xmv,yop,yuv4mpegpipe"
)
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
BUFFER_BYTES = 1 << 18  # read at once; PyAV's 32 KiB would call Python eight times as often

FORGETS_CLOCK = 0x0200  # AVFMT_TS_DISCONT: formats whose time stamps may begin anew
PAUSE_S = 3600.0  # between two frames, in any format; beyond it the time stamp is damage


# FFmpeg's words that need a few more.
EXPLAINED = {"moov atom not found": "moov atom not found: the file is cut short, or is no MP4"}


class Unreadable(Refused):
    """A file that can't be used; the message is the reason that users read."""


@dataclass
class Source:
    """An open file.

    `heard` is what FFmpeg's parts said about errors, as (level, speaker, text). `origin` is where
    the file's clock starts, in seconds: at its first picture or sound. `cut` says how the file
    shows that its end is missing. `entered_at` is the time stamp of the first packet since the file
    was opened or sought in.
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
        """Return the seconds that the container claims."""
        return self.container.duration / 1e6 if self.container.duration else None

    @property
    def video(self) -> Any | None:
        """Return the first video stream that is no cover."""
        return next(iter(_videos(self.container)), None)

    def complaint(self, stream: Any) -> str | None:
        """Return what is wrong with the file or one of its streams, if anything; the first said.

        FFmpeg decodes a little of every stream to learn what it is, so the decoders of others
        speak up too.
        """
        if self.cut:
            return self.cut
        others = {codec_name(other) for other in self.container.streams} - {codec_name(stream)}
        said = (f"[{name}] {text.strip()}" for _, name, text in self.heard if name not in others)
        return next(said, None)

    def _complain(self, speaker: str, error: Any) -> None:
        """Remember what could not be read; a limit on memory is no matter of one packet."""
        if error.errno == errno.ENOMEM:
            raise MemoryError
        self.heard.append((0, speaker, error.strerror))

    def packets(self, stream: Any) -> Iterator[Any]:
        """Yield a stream's packets from where the file is read; then None: give what you hold.

        Time stamps go on where a transport stream begins anew. Such a jump is told by all streams
        together, so those of a file stay on one clock.
        """
        self.entered_at = None
        clock = Clock() if self.container.format.flags & FORGETS_CLOCK else None
        told = [*_videos(self.container), *self.container.streams.audio] if clock else [stream]
        for packet in self._demuxed(told):
            if clock:
                clock.correct(packet)
            if packet.stream_index == stream.index:
                self.entered_at = packet.pts if self.entered_at is None else self.entered_at
                yield packet
        yield None

    def _demuxed(self, streams: list[Any]) -> Iterator[Any]:
        """Yield packets until the end, or until the container can't be read any further.

        At the end of a file in whose middle a stream began, PyAV fails by an `IndexError`.
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

        A packet that can't be decoded is a complaint; the next ones may be fine.
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
    """Return a stream's decoder: libvpx for an alpha plane, which FFmpeg's own leave out."""
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
    """Turn FFmpeg's refusal to convert what it decoded into one that names it.

    Raises:
        Unreadable: it did refuse.
    """
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from None
        raise Unreadable(f"{what} can't be converted: {error.strerror}") from None


class _Bytes(io.FileIO):
    """A file's bytes; a seek to where no file reaches is the demuxer's trouble, not the disk's."""

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

    Python reads the bytes, so trouble with the disk is an `OSError` with its number, and nothing
    but this file is ever opened. FFmpeg is not told the file's name: the bytes alone decide.

    Raises:
        Unreadable: the file is empty, or no recording that a demuxer of the list understands.
        OSError: it can't be opened or read.
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
    """Return the second at which the first picture or sound starts, whatever subtitles do."""
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in (*_videos(container), *container.streams.audio)
        if stream.start_time is not None and abs(stream.start_time * stream.time_base) < CENTURIES_S
    ]
    return min(starts, default=0.0)


def _why(path: Path, heard: list[Any], error: Any) -> str:
    """Return why a file can't be opened, in FFmpeg's own words unless it is plain text."""
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
    """Return how the file shows that its end is missing.

    Three signs that no whole file has: the index points past the end (MP4, MOV), the RIFF header
    promises more (AVI), the last packet of a transport stream is incomplete.
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
