"""The demo of speech, by real weights: what a run hears better, as a later build would hear it."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_trainer import transcribers
from spark_trainer.config import Run, Transcript
from spark_trainer.data.files import read_json
from spark_trainer.data.layout import Layout
from spark_trainer.runs import configured
from spark_trainer.transcribers import Sound, filters, listening
from tests import ffmpeg, sounds

from .conftest import train, write_run

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "config/demo/speech"
LIBRIVOX = {
    "0870": "and mister john dashwood had then leisure to consider how much there might be "
    "prudently in his power to do for them",
    "0890": "unless to be rather cold hearted and rather selfish is to be ill disposed",
    "0920": "had he married a more a amiable woman he might have been made still more respectable "
    "than he was",
}
SILENCE_S = 10

pytestmark = pytest.mark.long


def line(number: int, wav: Path, **meta: Any) -> str:
    told = {"audio_duration": sounds.seconds(wav)} | meta
    entry = {"id": f"{number:064x}", "frames_dir": None, "audio": wav.name, "meta": told}
    return json.dumps(entry) + "\n"


def demo(folder: Path) -> Path:
    """Write the demo's manifest, as a build of it would."""
    folder.mkdir()
    videos = sorted(DEMO.glob("*/*.mp4"))
    lines = []
    for number, video in enumerate(videos):
        wav = ffmpeg.make(folder / f"{number}.wav", "-i", str(video), "-ar", "16000", "-ac", "1")
        lines.append(line(number, wav, source_path=video.relative_to(DEMO).as_posix()))
    path = folder / "manifest_v1.jsonl"
    path.write_text("".join(lines))
    return path


def readings(folder: Path) -> Path:
    """Write a manifest of what the model knew before: readings, each before a long silence."""
    folder.mkdir()
    lines = []
    for number, (name, text) in enumerate(LIBRIVOX.items()):
        samples, wav = listening.read(ROOT / f"tests/assets/librivox-{name}.wav"), folder / name
        silence = np.zeros(SILENCE_S * sounds.RATE, np.float32)
        sounds.write_wav(wav, np.concatenate([samples, silence]) * 32767)
        segment = {"start": 0.0, "end": len(samples) / sounds.RATE, "text": text}
        lines.append(line(number, wav, segments=[segment], transcript=text, language="en"))
    path = folder / "manifest_v1.jsonl"
    path.write_text("".join(lines))
    return path


@dataclass(frozen=True)
class Trained:
    final: Path
    summary: dict[str, Any]
    held_out: list[Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("recognition")
    run = Run(
        model_type="asr",
        model_name="offline-tiny.en",
        manifest_path=str(demo(folder / "demo")),
        output_dir=str(folder / "runs"),
        freeze=("encoder",),
        asr={
            "references": str(DEMO),
            "words": str(DEMO / "names.txt"),
            "forgetting": str(readings(folder / "readings")),
            "no_speech": 0,
            "export": ["hf", "ct2"],
        },
        split={"validation": 0, "validation_paths": ["held-out/*"]},
        batch_size=8,
        learning_rate=5e-5,
        warmup_steps=2,
        max_steps=16,
        eval_steps=16,
        num_samples=1,
        num_workers=0,
        allow_cpu=True,
        min_gpus=0,
    )
    spec = configured.spec_on_manifest("words", run, Layout(folder / "state"))
    path = write_run(spec)
    wavs = [folder / "demo" / f"{number}.wav" for number in range(5)]
    train(path)
    yield Trained(path / "final", read_json(path / "trained.json"), wavs)
    shutil.rmtree(folder)


def test_names_are_heard_that_the_base_never_heard(trained: Trained) -> None:
    """By whole files, through the project's own transcriber; what was known before stays."""
    before, after = trained.summary["first_scores"], trained.summary["scores"]
    assert before["wer_long"] > 45
    assert after["wer_long"] < 25
    assert before["words_recall_long"] < 10
    assert after["words_recall_long"] > 50
    assert after["forgetting_wer_long"] < 15
    assert after["forgetting_text_on_silence_long"] == 0
    card = (trained.final / "README.md").read_text()
    assert f"| held-out wer_long | {before['wer_long']:.4g} before, " in card


def test_each_file_is_told_of(trained: Trained) -> None:
    told = read_json(trained.final / "wer.json")
    assert told.keys() == {"held_out", "forgetting"}
    part = told["held_out"]
    assert [one["path"] for one in part["files"]] == [f"held-out/0{n}.mp4" for n in range(5)]
    for when, scores in (("before", "first_scores"), ("after", "scores")):
        assert part[when]["wer"] == trained.summary[scores]["wer_long"]
        counted = [one[when]["wer"] * one["words"] / 100 for one in part["files"]]
        edits = sum(part[when][kind] for kind in ("substitutions", "deletions", "insertions"))
        assert sum(counted) == pytest.approx(edits)


def test_times_stay_valid_and_silence_stays_empty(trained: Trained) -> None:
    settings = Transcript(whisper_model=str(trained.final / "ct2"), backend="faster-whisper")
    model = transcribers.load(settings, "cpu")
    spoken = [listening.listen(wav, vad=True) for wav in trained.held_out]
    silence = np.zeros(SILENCE_S * sounds.RATE, np.float32)
    *heard, nothing = model.transcribe([*spoken, Sound(silence, ((0.0, float(SILENCE_S)),))])
    for sound, said in zip(spoken, heard, strict=True):
        kept, _ = filters.keep(said.segments, sound.duration, settings)
        times = [time for one in kept for time in (one.start, one.end)]
        assert len(times) > 2
        assert times == sorted(times)
        assert 0 <= times[0] < times[-1] <= sound.duration
    assert not filters.keep(nothing.segments, SILENCE_S, settings)[0]
