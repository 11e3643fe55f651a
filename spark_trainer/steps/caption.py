"""A caption for each video by one captioner, from a few of the video's frames."""

import time
from collections.abc import Iterator
from pathlib import Path

from spark_trainer import captioners, environment, log
from spark_trainer.captioners import Captioner, Shown, Trouble, engine
from spark_trainer.config import Captioning, ConfigError
from spark_trainer.data.files import read_json
from spark_trainer.data.layout import Layout, Video, frame_name
from spark_trainer.data.meta import HALVES
from spark_trainer.errors import MachineError
from spark_trainer.memory import OutOfMemory, fitting
from spark_trainer.steps import Context, Facts
from spark_trainer.steps.device import Wanted, device

VERSION = 2
UPSTREAM = ("frames",)
SETTINGS = Captioning

PACKAGES = ("bitsandbytes", "efficientnet-lite-pytorch", "pillow", "torch", "transformers")


def wanted(settings: Captioning) -> Wanted:
    """As configured; a backend that is fast enough anywhere leaves GPUs alone."""
    needs = captioners.backend(settings.captioner_backend).NEEDS_GPU
    return settings.device if needs and settings.engine == "transformers" else "cpu"


def identity(settings: Captioning, cache: Path) -> str | None:
    """What the model's name stands for."""
    return captioners.identity(settings, cache)


def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
    """The record itself is the result."""
    return []


def produce(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Caption the videos with one loaded model.

    Raises:
        ConfigError: no GPU where one is wanted, or a checkpoint that can't be loaded.
        OutOfMemory: a single video does not fit.
    """
    settings: Captioning = context.settings
    shown: list[tuple[Video, Shown]] = []
    for video in videos:
        record = read_json(context.layout.record(video, "frames"))
        if record["status"] == "ok":
            shown.append((video, choose(context.layout, video, record["times"], settings)))
        else:
            yield video, {"status": "none", "why": record["reason"], "caption": None}
    if shown:
        yield from _caption(shown, context)


def _caption(shown: list[tuple[Video, Shown]], context: Context) -> Iterator[tuple[Video, Facts]]:
    settings: Captioning = context.settings
    what = f"caption/{settings.captioner_backend}, {len(shown)} videos"
    with device("caption", wanted(settings), settings.gpu_fraction, context.gpus, what) as place:
        began = time.perf_counter()
        with fitting(
            f"caption.model_name: the model does not fit into the memory of {place}; expected a "
            "smaller one, or caption.quantization"
        ):
            captioner = captioners.load(settings, place, context.workers)
        log.logger.info(
            "caption/%s: loaded %s on %s in %.1f s",
            settings.captioner_backend,
            captioners.model_name(settings) or "its own weights",
            place,
            time.perf_counter() - began,
        )
        origin = _origin(captioner, settings, context.layout)
        seen = [one for _, one in shown]
        try:
            for number, text, seconds in engine.run(
                captioner, seen, settings.batch_size, settings.num_workers
            ):
                video, frames = shown[number]
                if isinstance(text, Trouble):
                    yield video, _nothing(video, text)
                else:
                    yield video, _record(text, frames, settings, origin, seconds)
        except OutOfMemory as error:
            raise OutOfMemory(
                f"caption: a single video does not fit into the memory of {place}; expected a "
                f"lower caption.num_frames or caption.max_side_px, or a smaller model ({error})"
            ) from error
        except (ConfigError, MachineError) as error:
            if error.__cause__:
                log.logger.error("caption: where it stopped", exc_info=error.__cause__)
            raise


def _origin(captioner: Captioner, settings: Captioning, layout: Layout) -> Facts:
    """What every record of this job tells about where its caption comes from."""
    decoding = ("max_new_tokens", "num_beams", "repetition_penalty", "no_repeat_ngram_size")
    return {
        "backend": settings.captioner_backend,
        "model": captioners.model_name(settings),
        "revision": captioners.identity(settings, layout.model_digests),
        "prompt": captioners.prompt(settings) or None,
        "decoding": {name: getattr(settings, name) for name in decoding},
        "engine": settings.engine,
        "quantization": settings.quantization,
        "packages": environment.versions(PACKAGES),
        **captioner.facts,
    }


def _nothing(video: Video, trouble: Trouble) -> Facts:
    """The record of a video that gets no caption."""
    if trouble.details:
        log.logger.error("caption %s: %s", video.hash[:12], trouble.details)
    facts = {"why": trouble.why, "caption": None, "unread": trouble.unread}
    if trouble.machine:
        return facts | {"status": "failed", "reason": trouble.why}
    log.logger.warning("caption %s: %s", video.hash[:12], trouble.why)
    return facts | {"status": "none"}


def _record(text: str, shown: Shown, settings: Captioning, origin: Facts, seconds: float) -> Facts:
    facts: Facts = {
        "caption": HALVES.sub("\ufffd", text),
        **origin,
        "frames": [frame.name for frame in shown.frames],
        "seconds": round(seconds, 4),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if not text:
        return facts | {"status": "none", "caption": None, "why": "the model said nothing"}
    if len(text) > settings.max_characters:
        why = (
            f"the model said {len(text):,} characters; caption.max_characters is "
            f"{settings.max_characters:,}"
        )
        return facts | {"status": "none", "caption": None, "why": why}
    return facts | {"status": "ok"}


def choose(layout: Layout, video: Video, times: list[float], settings: Captioning) -> Shown:
    """At most `num_frames` of a video's frames, spread as `choose` says."""
    total = len(times)
    count = min(settings.num_frames, total)
    if settings.choose == "start":
        places = list(range(count))
    elif settings.choose == "ends" and count > 1:
        places = [round(i * (total - 1) / (count - 1)) for i in range(count)]
    else:
        places = [int((i + 0.5) * total / count) for i in range(count)]
    folder = layout.frames(video)
    frames = tuple(folder / frame_name(place + 1) for place in places)
    return Shown(frames, tuple(times[place] for place in places))
