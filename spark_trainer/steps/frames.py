"""Still frames of a video at a steady rate, each with the time it is shown at."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from spark_trainer import ffmpeg
from spark_trainer.config import Frames
from spark_trainer.data import video as videos
from spark_trainer.data.layout import Layout, Video, frame_name
from spark_trainer.steps import Context, Facts, shard
from spark_trainer.steps.device import Wanted

if TYPE_CHECKING:
    import numpy as np

VERSION = 2
UPSTREAM = ()
SETTINGS = Frames


def wanted(settings: Frames) -> Wanted:
    """FFmpeg runs on the CPU."""
    return "cpu"


def identity(settings: Frames, cache: Path) -> None:
    """Nothing but the settings decides the frames."""


def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
    """The first and last frame: a folder is moved into place as a whole."""
    if record.get("status") != "ok":
        return []
    folder = layout.frames(video)
    return [folder / frame_name(1), folder / frame_name(len(record["times"]))]


def produce(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Extract the frames of each video, one FFmpeg process per core."""
    return shard.each(_extract, videos, context)


def _extract(video: Video, context: Context) -> Facts:
    settings: Frames = context.settings
    source = shard.source(context.layout, video)
    folder = context.layout.frames(video)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        probe = ffmpeg.probe(source)
    except ffmpeg.MediaError as error:
        return {"status": "rejected", "reason": str(error)}
    if probe.video_codec is None:
        return {"status": "rejected", "reason": "no video stream"}
    if probe.width == 0:
        return {"status": "rejected", "reason": f"video stream without a size ({probe.format})"}
    temporary = folder.with_name(".frames.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        result = ffmpeg.run(arguments(source, temporary, probe, settings))
        times = _times(result.output)
        others = {track.codec for track in probe.audio}
        complaint = probe.cut or result.complaint(probe.video_codec, others)
        if not times or len(times) != len(list(temporary.iterdir())):
            why = complaint or "the video stream is empty"
            return {"status": "rejected", "reason": f"no decodable frame: {why}"}
        if complaint and settings.damaged == "reject":
            return {"status": "rejected", "reason": f"damaged: {complaint}"}
        width, height = _size(temporary / frame_name(1))
        motion = _motion(temporary, len(times))
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    facts: Facts = {
        "status": "ok",
        "times": times,
        "duration": _round(probe.duration),
        "fps": _round(probe.fps),
        "width": width,
        "height": height,
        "codec": probe.video_codec,
        "motion": motion,
    }
    return facts | ({"damaged": complaint, "reason": f"damaged: {complaint}"} if complaint else {})


def arguments(source: Path, folder: Path, probe: ffmpeg.Probe, settings: Frames) -> list[str]:
    """FFmpeg's arguments.

    `select` takes the first frame at or after each multiple of 1/rate, so a gap in a
    variable-rate clip gives fewer frames, never a repeated or mistimed one. FFmpeg rotates by the
    container's metadata before the filters; `0:V:0` is the first stream that is no cover art.
    A JPEG is BT.601 by definition: without the conversion HD colours would be off by up to 8 %.
    """
    rate = repr(settings.frame_rate)
    grid = f"floor(t*{rate}+1e-6)"
    previous = f"floor(prev_selected_t*{rate}+1e-6)"
    width = "iw*if(gt(sar,0),sar,1)"
    ratio = f"min(1,{settings.max_side_px}/max({width},ih))" if settings.max_side_px else "1"
    filters = [
        f"select='isnan(prev_selected_t)+gt({grid},{previous})'",
        f"scale=w='max(1,round({width}*{ratio}))':h='max(1,round(ih*{ratio}))'"
        ":flags=bicubic+accurate_rnd:out_color_matrix=bt601:out_range=full",
        "setsar=1",
        "format=yuvj420p",
        "metadata=mode=add:key=kept:value=1",
        "metadata=mode=print:key=kept:file=-",
    ]
    return [
        *("-threads", "1", "-protocol_whitelist", "file"),
        *("-itsoffset", f"{probe.late:.6f}", "-i", f"file:{source}"),
        *("-map", "0:V:0", "-fps_mode", "passthrough", "-vf", ",".join(filters)),
        *("-filter_threads", "1", "-threads", "1", "-f", "image2", "-c:v", "mjpeg"),
        *("-q:v", str(settings.jpeg_qscale), "-flags", "+bitexact"),
        f"file:{str(folder).replace('%', '%%')}/frame_%06d.jpg",
    ]


def _times(output: str) -> list[float]:
    """Seconds from the container's start of every kept frame, as the `metadata` filter prints."""
    lines = (line for line in output.splitlines() if line.startswith("frame:"))
    return [round(float(line.rpartition("pts_time:")[2]), 6) for line in lines]


def _size(image: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(image) as opened:
        return opened.size


def _motion(folder: Path, count: int) -> float:
    """`video.motion` of the frames, their luma averaged over 8 × 8 pixels as JPEG stores it."""
    return round(videos.motion(_cells(folder / frame_name(n + 1)) for n in range(count)), 2)


def _cells(image: Path) -> "np.ndarray":
    import numpy as np
    from PIL import Image

    with Image.open(image) as opened:
        opened.draft("L", (opened.width // 8, opened.height // 8))
        return np.asarray(opened.convert("L"))


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
