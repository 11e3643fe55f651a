"""Clips a second and core: frames kept as JPEGs against readers that decode the video.

uv run python benchmarks/reading.py

Each reader gives the same 16 frames of a clip, RGB of one size in memory, on one thread. Ours are
`data.sample.read`, as training calls it. Readers that are not installed are left out and named.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import measure
import media
import numpy as np
import torch
import train_setup
import transformers
from measure import Measured, Options, Target

from spark_trainer import families
from spark_trainer.config import Frames, Sampling
from spark_trainer.data import sample
from spark_trainer.data.layout import Layout
from spark_trainer.data.sample import Plan, Sample
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.media import stills
from spark_trainer.steps import frames

NUM_FRAMES = 16
SIDE_PX = 448  # the longer one of the frames that a reader gives
TOGETHER = 4  # clips of a batch
MAX_SCALED = 0.75
MAX_OF_VIDEO = 1.0
Clip = tuple[Path, Plan]  # the video, and which of its frames are read
Read = Callable[[Clip], Any]


def clips(folder: Path, count: int, size: str) -> list[Clip]:
    """Make videos, and two frames a second of each as the `frames` step does."""
    videos = media.cached_clips(count, size, cores=1)
    made = []
    for path in sorted(videos.glob("*.mp4")):
        target = folder / path.stem / "frames"
        target.mkdir(parents=True)
        facts = stills.extract(*frames.arguments(path, target, Frames(frame_rate=2)))
        source = Layout(folder).source(path.stem)
        source.parent.mkdir(parents=True, exist_ok=True)
        source.symlink_to(path)
        entry = {"id": path.stem, "frames_dir": f"{path.stem}/frames"}
        entry["meta"] = {"frame_times": facts["times"]}
        times = tuple(facts["times"][:NUM_FRAMES])
        made.append((path, Plan(entry, times, None, "word1 word2", None, False, {}, 0, 0)))
    return made


def ours(folder: Path, clip: Clip, **settings: Any) -> Sample:
    """Read a clip as training does."""
    chosen = Sampling(num_frames=NUM_FRAMES, max_side_px=SIDE_PX, **settings)
    return sample.read(clip[1], chosen, Layout(folder))


def shown(width: int, height: int) -> tuple[int, int]:
    """Return the size of the frames that a reader gives."""
    ratio = SIDE_PX / max(width, height)
    return round(width * ratio), round(height * ratio)


def places(times: Sequence[float], rate: float) -> list[int]:
    """Return the numbers of the frames at these times."""
    return [round(time * rate) for time in times]


def by_pyav(clip: Clip) -> np.ndarray:
    """Read a clip with PyAV, scaled by FFmpeg."""
    found = []
    with av.open(str(clip[0])) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        wanted = set(places(clip[1].times, float(stream.average_rate)))
        width, height = shown(stream.width, stream.height)
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                small = frame.reformat(width, height, "rgb24", interpolation="BICUBIC")
                found.append(small.to_ndarray())
            if number >= max(wanted):
                break
    return np.stack(found)


def by_opencv(clip: Clip) -> np.ndarray:
    """Read a clip with OpenCV, scaled by areas, as it shrinks without aliasing."""
    threads = [cv2.CAP_PROP_N_THREADS, 1]
    video, found = cv2.VideoCapture(str(clip[0]), cv2.CAP_FFMPEG, threads), []
    wanted = set(places(clip[1].times, video.get(cv2.CAP_PROP_FPS)))
    for number in range(max(wanted) + 1):
        if not video.grab():
            break
        if number in wanted:
            _, frame = video.retrieve()
            size = shown(frame.shape[1], frame.shape[0])
            small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            found.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
    return np.stack(found)


def by_torchcodec(clip: Clip) -> Any:
    """Read a clip with torchcodec, scaled by torchvision."""
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]
    from torchvision.transforms.v2 import functional

    decoder = VideoDecoder(str(clip[0]), num_ffmpeg_threads=1)
    found = decoder.get_frames_played_at(list(clip[1].times)).data
    width, height = shown(decoder.metadata.width, decoder.metadata.height)
    return functional.resize(found, [height, width], antialias=True)


def by_decord(clip: Clip) -> Any:
    """Read a clip with decord, scaled by FFmpeg."""
    import decord  # type: ignore[import-not-found]

    whole = decord.VideoReader(str(clip[0]), num_threads=1)
    width, height = shown(*whole[0].shape[1::-1])
    video = decord.VideoReader(str(clip[0]), num_threads=1, width=width, height=height)
    return video.get_batch(places(clip[1].times, video.get_avg_fps())).asnumpy()


READERS: dict[str, Read] = {
    "av": by_pyav,
    "cv2": by_opencv,
    "torchcodec": by_torchcodec,
    "decord": by_decord,
}


def cpu_s(work: Callable[[], Any]) -> float:
    """Return the CPU-seconds of this process for some work."""
    before = time.process_time()
    work()
    return time.process_time() - before


def of_clips(read: Read, some: list[Clip], rounds: int) -> float:
    """Return the CPU-seconds a clip: the median of some rounds, after one clip to warm up."""
    read(some[0])
    return statistics.median(
        cpu_s(lambda: [read(clip) for clip in some]) / len(some) for _ in range(rounds)
    )


def rates(folder: Path, some: list[Clip], rounds: int, size: str) -> dict[str, float]:
    """Print and return the CPU-seconds a clip of each reader."""
    kept = {name: partial(ours, folder, jpeg_decoding=name) for name in ("full", "scaled")}
    readers: dict[str, Read] = {f"JPEGs, {name}": read for name, read in kept.items()}
    readers["clip.source: video"] = partial(ours, folder, source="video")
    readers |= {name: read for name, read in READERS.items() if importlib.util.find_spec(name)}
    print(f"\n{size}, {NUM_FRAMES} frames to {SIDE_PX} px: {'CPU s':>12}{'clips/s a core':>16}")
    found = {}
    for name, read in readers.items():
        found[name] = of_clips(read, some, rounds)
        print(f"{name:<36}{found[name]:>8.3f}{1 / found[name]:>16.1f}", flush=True)
    for name in READERS.keys() - readers.keys():
        print(f"{name:<36}not installed")
    return found


def parts(folder: Path, some: list[Clip], checkpoint: Path) -> dict[str, float]:
    """Print and return the CPU-seconds of what happens to a clip, and what scaling changes."""
    family: Any = families.find(str(checkpoint))
    loaded = family.load(str(checkpoint), LoadOptions())
    encode = partial(family.encode, loaded, max_length=100_000)
    full = [ours(folder, clip) for clip in some]
    large = [
        replace(one, images=_large(folder, clip)) for one, clip in zip(full, some, strict=True)
    ]
    encoded = [encode(one) for one in full]
    batch = family.collate(loaded, encoded[:TOGETHER], True).tensors["pixel_values_videos"]
    count, together = len(some), min(TOGETHER, len(some))
    found = {
        "decode": cpu_s(lambda: [_large(folder, clip) for clip in some]) / count,
        "resize": cpu_s(lambda: [_resized(one) for one in large]) / count,
        "processor": cpu_s(lambda: [encode(one) for one in full]) / count,
        "collate": cpu_s(lambda: family.collate(loaded, encoded[:TOGETHER], True)) / together,
        "to shared memory": cpu_s(lambda: batch.clone().share_memory_()) / together,
    }
    for name, seconds in found.items():
        print(f"    {name:<32}{seconds:>8.3f}")
    scaled = [ours(folder, clip, jpeg_decoding="scaled") for clip in some]
    found["pixels differ by, mean of 255"] = _apart(full, scaled)
    losses = []
    for samples in (full, scaled):
        made = family.collate(loaded, [encode(one) for one in samples[:TOGETHER]], True)
        with torch.no_grad():
            losses.append(float(family.loss(loaded, loaded.model, made)) / made.num_targets)
    found["loss, full"], found["loss, scaled"] = losses
    for name in list(found)[-3:]:
        print(f"    {name:<32}{found[name]:>8.4f}")
    return found


def _large(folder: Path, clip: Clip) -> tuple[Any, ...]:
    """Read the frames at their own size."""
    return sample.read(clip[1], Sampling(num_frames=NUM_FRAMES), Layout(folder)).images


def _resized(one: Sample) -> list[Any]:
    return [image.resize(shown(*image.size)) for image in one.images]


def _apart(one: list[Sample], other: list[Sample]) -> float:
    """Return the mean absolute difference of the pixels of clips."""
    pairs = ((a.images, b.images) for a, b in zip(one, other, strict=True))
    return statistics.fmean(
        float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean())
        for images, others in pairs
        for a, b in zip(images, others, strict=True)
    )


def measured(base: Path, options: Options) -> Measured:
    """Measure each size of video."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    transformers.utils.logging.disable_progress_bar()
    checkpoint = train_setup.checkpoint(base / "model", train_setup.SMALL, side=options.side)
    figures: dict[str, Any] = {}
    targets = []
    for size in options.sizes:
        folder = base / size.replace(":", "x")
        some = clips(folder, options.clips, size)
        found = rates(folder, some, options.rounds, size)
        figures[size] = {"cpu_s_a_clip": found, "parts": parts(folder, some, checkpoint)}
        full = found["JPEGs, full"]
        targets += [
            Target(
                f"scaled / full decoding, CPU, {size}", found["JPEGs, scaled"] / full, MAX_SCALED
            ),
            Target(f"JPEGs / PyAV, CPU, {size}", full / found["av"], MAX_OF_VIDEO),
        ]
    return figures, targets


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        clips=(6, 2, "of each size"),
        sizes=(["1280:720", "1920:1080"], ["160:90"], "width:height of the videos"),
        rounds=(3, 1, "over the clips"),
        side=(320, 56, "pixels of a side of what the processor makes of a frame"),
    )
