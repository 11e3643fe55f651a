"""A model that the same graph trains: its place is known, and names results, before it is there."""

from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import ConfigError, load
from spark_trainer.data import index
from spark_trainer.graph import trained
from spark_trainer.graph.runs import RunGraph
from spark_trainer.graph.videos import VideoGraph


@pytest.fixture
def keys(two_clips: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    """Two clips whose transcripts come from a run on a manifest that is there."""
    given = tmp_path / "given.jsonl"
    given.write_text("")
    run = {
        "model_type": "asr",
        "model_name": "offline-tiny.en",
        "manifest_path": str(given),
        "output_dir": str(tmp_path / "runs"),
    }
    return {
        **two_clips,
        "transcript": {"whisper_model": "run:words", "backend": "faster-whisper"},
        "train": {"runs": {"words": run, "other": run | {"seed": 1}}},
    }


def graph(keys: dict[str, Any]) -> RunGraph:
    config = trained.located(load(keys))
    return RunGraph(VideoGraph(config, index.scan(config)))


def test_the_run_is_trained_first(keys: dict[str, Any]) -> None:
    runs = graph(keys)
    folder = runs.specs["words"].folder
    assert runs.transcriber == [folder.summary] == [runs.summaries["words"]]
    assert runs.videos.config.transcript.whisper_model == f"run:{folder.final}/ct2"
    keys["transcript"] = {"whisper_model": "run:words"}
    assert graph(keys).videos.config.transcript.whisper_model == f"run:{folder.final}"
    keys["transcript"] = {"whisper_model": "offline-tiny.en"}
    assert graph(keys).transcriber == []


def test_transcripts_keep_their_name_once_the_model_is_there(keys: dict[str, Any]) -> None:
    runs = graph(keys)
    final = runs.specs["words"].folder.final
    (final / "ct2").mkdir(parents=True)
    (final / "ct2/model.bin").write_bytes(b"weights")
    assert graph(keys).videos.fingerprints == runs.videos.fingerprints


def test_another_run_makes_other_transcripts_and_nothing_else(keys: dict[str, Any]) -> None:
    before = graph(keys).videos.fingerprints
    keys["train"]["runs"]["words"]["learning_rate"] = 1e-3
    after = graph(keys).videos.fingerprints
    assert {step for step in before if before[step] != after[step]} == {"transcript", "manifest"}


def test_the_manifest_built_here_is_no_given_one(keys: dict[str, Any]) -> None:
    keys["train"]["runs"]["words"]["manifest_path"] = f"{keys['output_dir']}/manifest_v1.jsonl"
    with pytest.raises(ConfigError, match=r"run:words is a cycle: .* expected another manifest"):
        graph(keys)


def test_a_manifest_that_is_missing_is_named(keys: dict[str, Any]) -> None:
    keys["train"]["runs"]["words"]["manifest_path"] = "missing.jsonl"
    with pytest.raises(ConfigError, match=r"words.manifest_path: no such file: missing.jsonl"):
        graph(keys)
