"""A caption for each video by one captioner, from a few of the video's frames."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from spark_trainer import captioners
from spark_trainer.captioners import Captioner, Shown, Trouble, engine, vllm
from spark_trainer.captioners.backends import sidecar
from spark_trainer.config import Captioning, Config, ConfigError
from spark_trainer.config.labels import GIVEN
from spark_trainer.data.labels import given, kept
from spark_trainer.data.labels.given import CAPTIONED
from spark_trainer.data.layout import Layout, Video, frame_name
from spark_trainer.data.meta import HALVES
from spark_trainer.errors import MachineError
from spark_trainer.steps import frames
from spark_trainer.steps.base import Checkpoint, Context, Step, at_hub
from spark_trainer.steps.device import Wanted, device
from spark_trainer.steps.frames import FramesRecord
from spark_trainer.steps.record import ALWAYS, Facts, Record, Status
from spark_trainer.system import environment, log
from spark_trainer.system.memory import OutOfMemory, fitting

PACKAGES = ("bitsandbytes", "efficientnet-lite-pytorch", "pillow", "torch", "transformers", "vllm")


IS_GIVEN = "its caption is given"


@dataclass(frozen=True, kw_only=True)
class CaptionRecord(Record):
    """The caption, the frames that it was made from, and what made it."""

    caption: str | None = field(default=None, metadata=ALWAYS)
    backend: str | None = None
    model: str | None = None
    revision: str | None = None
    prompt: str | None = None
    decoding: Facts | None = None
    engine: str | None = None
    quantization: str | None = None
    packages: Facts | None = None
    frames: Sequence[str] | None = None  # names of files
    seconds: float | None = None
    made: str | None = None


class CaptionStep(Step[Captioning, CaptionRecord]):
    """One captioner, `caption/<backend>`; the word alone stands for all that are configured."""

    VERSION = 2
    SETTINGS = Captioning
    RECORD = CaptionRecord
    REPORTED = False  # of all captions the manifest tells the one that is selected

    def names(self, config: Config) -> tuple[str, ...]:
        """Name a step for each captioner."""
        return tuple(f"{self.name}/{backend}" for backend in config.caption.names)

    def settings(self, config: Config) -> Captioning:
        """Return the settings of this step's captioner."""
        every = config.caption.resolved().items()
        return next(chosen for backend, chosen in every if self.name == f"caption/{backend}")

    def wanted(self, settings: Captioning) -> Wanted:
        """Ask for what is configured; a backend that is fast enough anywhere leaves GPUs alone."""
        needs = captioners.backend(settings.captioner_backend).NEEDS_GPU
        return settings.device if needs and settings.engine != "server" else "cpu"

    def identity(self, settings: Captioning, cache: Path) -> str | None:
        """Return what the model's name stands for."""
        return captioners.identity(settings, cache)

    def packages(self, settings: Captioning) -> tuple[str, Sequence[str]]:
        """Name those of the engine, the precision or the backend."""
        name = settings.captioner_backend
        backend = captioners.backend(name)
        if backend.MODEL_TYPES and settings.engine == "server":
            return "caption.engine: server", ("httpx2",)
        if backend.MODEL_TYPES and settings.engine == "vllm":
            return "caption.engine: vllm", (vllm.REQUIREMENT,)
        if backend.MODEL_TYPES and settings.quantization != "none":
            return f"caption.quantization: {settings.quantization}", ("bitsandbytes",)
        return f"captioner_backend: {name}", backend.PACKAGES

    def checkpoints(self, settings: Captioning) -> Iterator[Checkpoint]:
        """Yield the captioner's, where it runs here."""
        model = captioners.model_name(settings)
        if settings.engine != "server" and model:
            yield at_hub(captioners.key(settings), model, settings.revision)

    @property
    def told(self) -> tuple[str, ...]:
        """Return that captions are read where they are handed on, else that there is one."""
        return super().told if self.name == f"caption/{GIVEN}" else (CAPTIONED,)

    def skips(self, upstream: Sequence[Record], video: Video) -> str | None:
        """Leave a video to the one who captioned it; what is given needs no frames."""
        if CAPTIONED in given.parsed(video.labels):
            return IS_GIVEN
        return None if video.labels else super().skips(upstream, video)

    def produce(
        self, videos: list[Video], context: Context[Captioning]
    ) -> Iterator[tuple[Video, CaptionRecord]]:
        """Caption the videos with one loaded model.

        Raises:
            ConfigError: no GPU where one is wanted, or a checkpoint that can't be loaded.
            OutOfMemory: a single video does not fit.
            Broken: the copy of a caption that is given is gone.
        """
        layout = context.layout
        shown = []
        for video in videos:
            times = FramesRecord.read(layout.record(video, "frames")).times
            label = kept.find(layout, video, "captions")
            frames_of = choose(layout, video, times, context.settings)
            shown.append((video, replace(frames_of, label=label.content if label else None)))
        yield from _caption(shown, context, self.wanted(context.settings))


STEP = CaptionStep


def _caption(
    shown: list[tuple[Video, Shown]], context: Context[Captioning], wanted: Wanted
) -> Iterator[tuple[Video, CaptionRecord]]:
    settings = context.settings
    what = f"caption/{settings.captioner_backend}, {len(shown)} videos"
    with device("caption", wanted, settings.gpu_fraction, context.gpus, what) as place:
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
                video, seen_frames = shown[number]
                if isinstance(text, Trouble):
                    yield video, _nothing(video, text)
                else:
                    yield video, _record(text, seen_frames, settings, origin, seconds)
        except OutOfMemory as error:
            raise OutOfMemory(
                f"caption: a single video does not fit into the memory of {place}; expected a "
                f"lower caption.num_frames or caption.max_side_px, or a smaller model ({error})"
            ) from error
        except (ConfigError, MachineError) as error:
            if error.__cause__:
                log.logger.error("caption: where it stopped", exc_info=error.__cause__)
            raise


def _origin(captioner: Captioner, settings: Captioning, layout: Layout) -> CaptionRecord:
    """Return what every record of this job tells about where its caption comes from."""
    decoding = ("max_new_tokens", "num_beams", "repetition_penalty", "no_repeat_ngram_size")
    return CaptionRecord(
        backend=settings.captioner_backend,
        model=captioners.model_name(settings),
        revision=captioners.identity(settings, layout.model_digests),
        prompt=captioners.prompt(settings) or None,
        decoding={name: getattr(settings, name) for name in decoding},
        engine=settings.engine,
        quantization=settings.quantization,
        packages=environment.versions(PACKAGES),
        more=captioner.facts,
    )


def _nothing(video: Video, trouble: Trouble) -> CaptionRecord:
    """Return the record of a video that gets no caption."""
    if trouble.details:
        told = {log.TRACE: trouble.details}
        log.logger.error("caption %s: %s", video.hash[:12], trouble.why, extra=told)
    elif not trouble.machine and trouble.why != sidecar.NONE:  # a build says first who has none
        log.logger.warning("caption %s: %s", video.hash[:12], trouble.why)
    status = Status.FAILED if trouble.machine else Status.NONE
    return CaptionRecord(status=status, reason=trouble.why, unread=trouble.unread)


def _record(
    text: str, shown: Shown, settings: Captioning, origin: CaptionRecord, seconds: float
) -> CaptionRecord:
    record = replace(
        origin,
        caption=HALVES.sub("\ufffd", text),
        frames=[frame.name for frame in shown.frames],
        seconds=round(seconds, 4),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    if not text:
        why = "the model said nothing"
    elif len(text) > settings.max_characters:
        why = (
            f"the model said {len(text):,} characters; caption.max_characters is "
            f"{settings.max_characters:,}"
        )
    else:
        return record
    return replace(record, status=Status.NONE, reason=why, caption=None)


def choose(layout: Layout, video: Video, times: Sequence[float], settings: Captioning) -> Shown:
    """Choose at most `num_frames` of a video's frames, spread as `choose` says."""
    total = len(times)
    count = min(settings.num_frames, total)
    if settings.choose == "start":
        places = list(range(count))
    elif settings.choose == "ends" and count > 1:
        places = [round(i * (total - 1) / (count - 1)) for i in range(count)]
    else:
        places = [int((i + 0.5) * total / count) for i in range(count)]
    folder = frames.folder(layout, video)
    chosen = tuple(folder / frame_name(place + 1) for place in places)
    return Shown(chosen, tuple(times[place] for place in places))
