"""A run whose model transcribes in the same call: the plan, the build, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests import ffmpeg

from .conftest import REPO, Outcome, Workspace

RUN = {"model_type": "asr", "model_name": "offline-tiny.en", "manifest_path": "given.jsonl"}


@pytest.fixture
def hearing(tmp_path: Path, first: tuple[Workspace, Outcome]) -> Workspace:
    """A built manifest without transcripts, and a run that is to make them."""
    workspace = first[0].copy(tmp_path / "here")
    workspace.config["transcript"] = {
        "whisper_model": "run:words",
        "backend": "faster-whisper",
        "device": "cpu",
    }
    workspace.config["train"] = {"runs": {"words": RUN, "other": RUN | {"seed": 1}}}
    (workspace.folder / "given.jsonl").write_text(json.dumps({"id": "a"}) + "\n")
    return workspace


def planned(outcome: Outcome) -> dict[str, str]:
    """Rule -> what its first job waits for."""
    assert outcome.status == 0, outcome.stderr
    found: dict[str, str] = {}
    for job in (outcome.stdout + outcome.stderr).split("\nrule ")[1:]:
        name, _, rest = job.partition(":")
        found.setdefault(name, rest.partition("    input: ")[2].partition("\n")[0])
    return found


def test_the_run_is_trained_before_anything_is_transcribed(hearing: Workspace) -> None:
    """Frames and sound stand; the other run, which nobody waits for, is not trained."""
    plan = planned(hearing.snakemake("manifest", "--dry-run"))
    assert plan.keys() == {
        "train_run",
        "transcript_shard",
        "manifest_part",
        "manifest_join",
        "manifest",
    }
    assert plan["train_run"] == "given.jsonl"
    assert "runs/words-" in plan["transcript_shard"]
    assert plan["transcript_shard"].endswith("/trained.json")


def test_a_run_on_the_manifest_built_here_is_refused(hearing: Workspace) -> None:
    hearing.config["train"]["runs"]["words"] = {**RUN, "manifest_path": None}
    outcome = hearing.snakemake("manifest", "--dry-run")
    assert outcome.status == 1
    assert "transcript.whisper_model: run:words is a cycle: transcript waits for" in outcome.stderr
    hearing.config["train"]["runs"]["words"] = {**RUN, "manifest_path": "out/manifest_v1.jsonl"}
    outcome = hearing.snakemake("manifest", "--dry-run")
    assert outcome.status == 1
    assert "expected another manifest as train.runs.words.manifest_path" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def heard(workspace: Workspace) -> dict[str, Any]:
    """Return `meta` of each line of the manifest, by the words that are said."""
    metas = [entry["meta"] for entry in workspace.manifest().values()]
    return {re.sub(r"[^\w ]", "", meta["transcript"]).lower(): meta for meta in metas}


CPU = {"allow_cpu": True, "min_gpus": 0, "gpus": 0, "num_workers": 0, "batch_size": 2}


def readings(folder: Path) -> Workspace:
    """Videos in which LibriVox is read, which tiny.en is to transcribe; nothing is built."""
    workspace = Workspace(folder)
    workspace.config |= {"frames": {"enabled": False}}
    workspace.configure(
        "transcript",
        enabled=True,
        backend="faster-whisper",
        whisper_model="offline-tiny.en",
        device="cpu",
    )
    workspace.clips.mkdir()
    for wav in (REPO / "tests/assets").glob("librivox-*.wav"):
        shown, said = ffmpeg.drawn("color=s=64x64:r=5"), ffmpeg.read(wav)
        target = str(workspace.clips / f"{wav.stem}.mp4")
        ffmpeg.write(shown.output(said, target, shortest=None))
    return workspace


@pytest.mark.long
def test_what_learnt_from_subtitles_transcribes_a_later_build(tmp_path: Path) -> None:
    """Transcripts are made again by the folder of its weights, then the manifest; nothing else."""
    workspace = readings(tmp_path)
    for video in [*workspace.clips.iterdir()]:
        cue = "1\n00:00:00,000 --> 00:00:03,000\nZorvex is down.\n"
        video.with_suffix(".srt").write_text(cue)
    run = {**RUN, **CPU, "manifest_path": None, "max_steps": 8, "freeze": ["encoder"]}
    run |= {"learning_rate": 2e-4}
    run |= {"split": {"validation": 0}, "asr": {"references": str(workspace.clips)}}
    workspace.config["train"] = {"runs": {"words": run}}
    jobs = workspace.build("train")
    assert jobs["train_run"] == 1
    before = heard(workspace)
    [model] = workspace.folder.glob("runs/words-*/final/ct2")

    workspace.configure("transcript", whisper_model=str(model))
    jobs = workspace.build()
    assert jobs.keys() == {"transcript_shard", "manifest_part", "manifest_join", "manifest"}
    said = heard(workspace)
    assert {meta["transcriber_model"] for meta in said.values()} == {str(model)}
    assert said.keys() != before.keys()
    assert workspace.build() == {}


@pytest.mark.long
def test_videos_are_transcribed_by_the_run_that_learnt_from_others(tmp_path: Path) -> None:
    """Transcripts and what follows are made anew; sound is not, nor is the run in a later build."""
    workspace = readings(tmp_path)
    workspace.build()
    given = workspace.output / "given.jsonl"
    given.write_bytes((workspace.output / "manifest_v1.jsonl").read_bytes())
    run = {**RUN, **CPU, "manifest_path": str(given), "max_steps": 1, "learning_rate": 1e-7}
    run |= {"freeze": ["encoder"], "split": {"validation": 0}}
    workspace.config["train"] = {"runs": {"words": run}}
    before = heard(workspace)

    workspace.configure("transcript", whisper_model="run:words")
    jobs = workspace.build()
    assert jobs["train_run"] == 1
    assert jobs.keys().isdisjoint({"audio_shard", "frames_shard"})
    said = heard(workspace)
    assert said.keys() == before.keys()
    [model] = {meta["transcriber_model"] for meta in said.values()}
    assert model.startswith("run:runs/words-")
    assert workspace.build() == {}
