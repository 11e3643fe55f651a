"""A run that hears, on references beside its manifest: what it is told, and what it tells."""

import hashlib
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_trainer.report import learnt
from spark_trainer.runs import record
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.table import table
from tests.families import tiny

from .conftest import train, write_run

TEXTS = ("The beagle sleeps.", "Snow leopard!", "a web site", "two lamps", "one poodle", "it rains")
SECONDS = 2


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whisper with random weights, in the place of BLIP."""
    return tiny.whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Noise of two seconds in each of a few videos, nothing known of what is said."""
    noise, entries = np.random.default_rng(0), []
    for number in range(len(TEXTS)):
        video = hashlib.sha256(str(number).encode()).hexdigest()
        (tmp_path / "data" / video).mkdir(parents=True)
        with wave.open(str(tmp_path / "data" / video / "audio.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(noise.normal(0, 3000, 16_000 * SECONDS).astype(np.int16).tobytes())
        meta = {"source_path": f"talk {number}.mp4", "audio_duration": float(SECONDS)}
        meta |= {"transcriber_model": "tiny", "language": "en"}
        audio = f"{video}/audio.wav"
        entries.append({"id": video, "frames_dir": None, "audio": audio, "meta": meta})
    path = tmp_path / "data/manifest_v1.jsonl"
    entries.sort(key=lambda entry: str(entry["id"]))
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """A line for each video."""
    path = tmp_path / "said.csv"
    lines = [f"talk {number}.mp4,{text}\n" for number, text in enumerate(TEXTS)]
    path.write_text("path,text\n" + "".join(lines))
    return path


def hearing(make: Any, references: Path, **asr: Any) -> Path:
    """The folder of a run on these references."""
    asr = {"references": str(references), "export": ["hf"]} | asr
    small = {"split": {"validation": 0.4}, "batch_size": 2, "max_steps": 2, "eval_steps": 1}
    return write_run(make(model_type="asr", asr=asr, num_samples=2, max_new_tokens=4, **small))


def test_it_is_measured_against_the_references(make: Any, references: Path) -> None:
    (references.parent / "names.txt").write_text("beagle\npoodle\nleopard\nlamps\nsite\nrains\n")
    folder = hearing(make, references, words=str(references.parent / "names.txt"))
    lineage = json.loads((folder / "lineage.json").read_text())
    (folder / "lineage.json").write_text(json.dumps(lineage | {"videos": {}}))
    lines = [line for line in train(folder) if "wer" in line]
    assert [line["step"] for line in lines] == [0, 1, 2]
    shown = json.loads((folder / "samples/step_00000002.json").read_text())
    assert {one["reference"] for one in shown} <= {*TEXTS}
    assert all("[-" in one["edits"] for one in shown)
    said = (folder / "train.log").read_text()
    assert shown[0]["edits"] in said
    told = json.loads((folder / "trained.json").read_text())
    assert told["scores"]["wer"] == lines[-1]["wer"]
    assert told["first_scores"]["wer"] == lines[0]["wer"]
    card = (folder / "final/README.md").read_text()
    before, after = (f"{lines[place]['wer']:.4g}" for place in (0, -1))
    assert f"| held-out wer | {before} before, {after} after |" in card
    assert "| held-out words_recall |" in card
    run = record.read(RunFolder(folder))
    assert f"{lines[0]['wer']:.1f} → {lines[-1]['wer']:.1f}" in table([run])
    runs = learnt.finished({"default": folder / "trained.json"})
    said = [line.text.strip() for line in learnt.shown(runs, learnt.samples(runs), {})]
    assert said[1].startswith("Held-out speech as run default hears it")
    assert [line.split()[0] for line in said[3:6]] == ["said", "heard", "heard"]


def test_references_that_fit_no_video_stop_it(make: Any, references: Path) -> None:
    with open(references, "a") as file:
        file.write("talk 9.mp4,nobody says this\n")
    place = f"{references}:{len(TEXTS) + 2}: no video of the manifest is called 'talk 9.mp4'"
    with pytest.raises(ValueError, match="no video of the manifest") as error:
        train(hearing(make, references))
    assert str(error.value).startswith(f"train.asr.references: {place}")


def test_a_line_that_does_not_fit_the_sound_is_named(make: Any, references: Path) -> None:
    lines = [f"talk {number}.mp4,{text},0,2\n" for number, text in enumerate(TEXTS)]
    late = "talk 0.mp4,after the end,3,4\n"
    references.write_text("path,text,start,end\n" + "".join(lines) + late)
    folder = hearing(make, references)
    train(folder)
    said = f"{references}:8: the segment at 3.00 s is not within the 2.00 s of sound"
    assert f"train.asr.references: {said}" in (folder / "train.log").read_text()


def test_other_references_are_another_run(make: Any, references: Path) -> None:
    asr = {"references": str(references)}
    first = make(model_type="asr", asr=asr).run_id
    moved = references.rename(references.with_name("moved.csv"))
    assert make(model_type="asr", asr={"references": str(moved)}).run_id == first
    moved.write_text(moved.read_text().replace("beagle", "poodle"))
    assert make(model_type="asr", asr={"references": str(moved)}).run_id != first
