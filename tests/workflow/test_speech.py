"""A run whose model transcribes in the same call: the plan, and what is refused before it."""

import json
from pathlib import Path

import pytest

from .conftest import Outcome, Workspace

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
