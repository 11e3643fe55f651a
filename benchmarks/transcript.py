"""The transcript step against a raw loop of the same model, and against a process per video.

uv run python benchmarks/transcript.py [--backends faster-whisper] [--model base]
"""

import os
import statistics
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import ffmpeg
import measure
import numpy as np
from measure import Measured, Options, Target

from spark_trainer import config, steps, transcribers
from spark_trainer.config import Transcript
from spark_trainer.data import index
from spark_trainer.data.files import write_json
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.steps import audio, runner
from spark_trainer.steps.base import Context
from spark_trainer.system import environment, gpu
from spark_trainer.transcribers import Sound, Transcriber, filters, listening

MAX_RAW_RATIO = 1 / 0.95  # our seconds over the raw loop's: items/s at least 0.95 of its
MAX_PROCESS_SHARE = 1 / 5  # our seconds over those of a process per video
ASSETS = measure.REPOSITORY / "tests/assets"


def clips(base: Path, count: int) -> list[Video]:
    """Write readings in turns, each behind another silence, and run the audio step."""
    readings = [listening.read(path) for path in sorted(ASSETS.glob("*.wav"))]
    (base / "videos").mkdir(parents=True)
    for number in range(count):
        silence = np.zeros(number * 160, np.float32)
        samples = np.append(silence, readings[number % len(readings)])
        path = base / "reading.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, listening.SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        target = str(base / f"videos/{number:04d}.mkv")
        measure.write(ffmpeg.input(str(path)).output(target, c="copy"))
    chosen = config.load({"video_dir": str(base / "videos"), "output_dir": str(base / "out")})
    found = index.scan(chosen)
    [part] = found.shards
    made = Context(found.layout, chosen.audio, workers=len(os.sched_getaffinity(0)))
    counts = runner.run("audio", steps.fingerprint(chosen, "audio"), part, made)
    assert counts == {"current": 0, "ok": count}, counts
    return list(part.videos)


@contextmanager
def lent(model: Transcriber) -> Iterator[list[int]]:
    """Let the step take a model that is already loaded, and count how often it asks for one."""
    loads: list[int] = []

    def load(*_: Any) -> Transcriber:
        loads.append(1)
        return model

    with mock.patch.object(transcribers, "load", load):
        yield loads


def step(videos: list[Video], context: Context) -> tuple[float, dict[str, str]]:
    """Seconds of our step, from WAV files to records, and its texts."""
    began, texts = time.perf_counter(), {}
    for video, record in steps.load("transcript").produce(videos, context):
        record.write(context.layout.record(video, "transcript"))
        texts[video.hash] = record.text
    return time.perf_counter() - began, texts


def raw(
    videos: list[Video], sounds: list[Sound], model: Transcriber, settings: Transcript
) -> tuple[float, dict[str, str]]:
    """Seconds of the same model over the same stretches, already in memory, in equal batches."""
    began, texts = time.perf_counter(), {}
    for first in range(0, len(videos), model.batch_size):
        some = sounds[first : first + model.batch_size]
        for video, sound, heard in zip(videos[first:], some, model.transcribe(some), strict=False):
            kept, _ = filters.keep(heard.segments, sound.duration, settings)
            texts[video.hash] = " ".join(segment.text for segment in kept)
    return time.perf_counter() - began, texts


def in_turns(videos: list[Video], context: Context, model: Transcriber, rounds: int) -> Measured:
    """Our step and the raw loop, taken in turns with the same loaded model."""
    settings: Transcript = context.settings
    sounds = [listening.listen(audio.wav(context.layout, video), settings.vad) for video in videos]
    model.transcribe(sounds[:1])  # the first call of a model is slower
    own, their, shares = [], [], []
    with lent(model) as loads:
        for _ in range(rounds):
            with measure.busy() as share:
                seconds, texts = step(videos, context)
            own.append(seconds)
            shares += share
            seconds, expected = raw(videos, sounds, model, settings)
            their.append(seconds)
            assert texts == expected, "the step and the raw loop wrote other texts"
    ratio = statistics.median(map(float.__truediv__, own, their))
    print(f"\n{len(videos)} clips, {rounds} rounds{'':<24}{'s':>9}{'clips/s':>9}")
    for label, times in (("our step", own), ("raw loop, preloaded", their)):
        median = statistics.median(times)
        print(f"{label:<44}{median:>9.2f}{len(videos) / median:>9.2f}")
    share = statistics.mean(shares) if shares else None
    print(f"GPU busy: {f'{share:.0f} %' if share is not None else 'not measured, no GPU'}")
    print(f"model loads in {rounds} runs of the step: {len(loads)}", flush=True)
    figures = {"step_s": own, "raw_s": their, "gpu_busy_percent": share, "loads": len(loads)}
    return figures, [
        Target("our step / raw loop, seconds", ratio, MAX_RAW_RATIO),
        Target("model loads for each run of the step", len(loads) / rounds, 1.0),
    ]


def processes(videos: list[Video], context: Context, tried: int) -> Measured:
    """Compare the job of a shard over all clips with the job of one video."""
    root = context.layout.root.resolve()
    order = {"step": "transcript", "fingerprint": "0" * 16, "output_dir": str(root)}
    write_json(root / "settings.json", order | {"settings": context.settings.model_dump()})
    members = root / f"{Shard('', tuple(videos)).name}.json"
    write_json(members, [[video.hash, video.folder] for video in videos])
    job = [sys.executable, "-m", "spark_trainer", "step", "--settings", str(root / "settings.json")]
    job += ["--threads", str(context.workers), "--gpus", "1", "--log", str(root / "job.log")]
    each = []
    print()
    measure.heading("one process per video")
    for video in videos[:: max(1, len(videos) // tried)][:tried]:
        cost, _ = measure.run([*job, "--folder", video.folder, "--video", video.hash], root)
        each.append(cost)
        context.layout.record(video, "transcript").unlink()
    for video in videos:
        context.layout.record(video, "transcript").unlink(missing_ok=True)
    own, _ = measure.run([*job, "--shard", str(members), "--marker", str(root / "marker")], root)
    whole = statistics.mean(cost.wall_s for cost in each) * len(videos)
    measure.row("one of them", measure.median(each))
    print(f"{f'all {len(videos)}, from {len(each)} of them':<44}{whole:>9.2f}")
    measure.row("all by one job", own)
    name = f"one job / a process per video, {len(videos)} clips"
    figures = {"process_s": each, "processes_whole_s": whole, "job_s": own}
    share = own.wall_s / whole
    print(f"{name}: 1/{1 / share:.1f}")
    return figures, [Target(name, share, MAX_PROCESS_SHARE)]


def measured(base: Path, options: Options) -> Measured:
    """Measure each backend in a folder of its own."""
    environment.tune_jobs()  # as the workflow's jobs
    figures: dict[str, Any] = {}
    targets: list[Target] = []
    for backend in options.backends:
        print(f"\n{backend}, {options.model}")
        settings = Transcript(
            backend=backend,
            whisper_model=options.model,
            batch_size=options.batch_size,
            device="auto",
        )
        figures[backend], more = compare(base / backend, settings, options)
        targets += [replace(target, name=f"{backend}: {target.name}") for target in more]
    return figures, targets


def compare(folder: Path, settings: Transcript, options: Options) -> Measured:
    """One backend against its raw loop and against a process per video."""
    videos = clips(folder, options.clips)
    context = Context(Layout(folder / "out"), settings, workers=options.threads)
    place = "cuda" if gpu.visible() else "cpu"
    model = transcribers.load(settings, place, options.threads)
    turns, targets = in_turns(videos[: options.in_turns], context, model, options.rounds)
    apart, more = processes(videos, context, options.processes)
    described = {"settings": settings.model_dump(mode="json"), "device": model.device}
    return described | turns | apart, targets + more


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        clips=(64, 2, "of the job"),
        in_turns=(24, 1, "clips of a round"),
        rounds=(3, 1, "of our step and the raw loop"),
        processes=(3, 1, "of one video each"),
        backends=(["openai-whisper", "faster-whisper"],) * 2 + ("transcribers",),
        model=("offline-tiny.en", "offline-tiny.en", "size or path"),
        batch_size=(8, 2, "clips that the model hears together"),
        threads=(2, 2, "of the model"),
    )
