"""A run of the same configuration as transcriber: what is refused before any work."""

from typing import Any

import pytest

from spark_trainer import config

ASR = {"model_type": "asr", "model_name": "tiny", "manifest_path": "given.jsonl"}


def load(model: str = "run:a", backend: str = "openai-whisper", **runs: Any) -> config.Config:
    train = {"train": {"runs": runs}} if runs else {}
    return config.load({"transcript": {"whisper_model": model, "backend": backend}, **train})


def test_a_run_on_a_given_manifest_may_transcribe() -> None:
    assert load(a=ASR).transcript.whisper_model == "run:a"
    assert load(a=ASR, backend="faster-whisper").transcript.whisper_model == "run:a"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "run:b", "a": ASR}, r"expected run:a \(got 'run:b'\)"),
        ({"model": "run:a/b", "a": ASR}, r"expected run:a \(got 'run:a/b'\)"),
        ({}, "expected a run; train is not configured"),
        ({"a": {"manifest_path": "given.jsonl"}}, "expected train.runs.a.model_type: asr"),
        (
            {"a": {key: ASR[key] for key in ("model_type", "model_name")}},
            "run:a is a cycle: transcript waits for the run a, the run for the manifest built "
            "here, and the manifest for transcript; expected train.runs.a.manifest_path",
        ),
        (
            {"backend": "faster-whisper", "a": ASR | {"asr": {"export": ["hf"]}}},
            "faster-whisper reads ct2; expected it in train.runs.a.asr.export",
        ),
    ],
)
def test_any_other_run_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(config.ConfigError, match=f"transcript.whisper_model: {message}"):
        load(**keys)


def test_a_name_that_nothing_reads_is_left_alone() -> None:
    off = {"transcript": {"enabled": False, "whisper_model": "run:gone"}}
    assert not config.load(off).transcript.enabled
