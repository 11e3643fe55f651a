"""`transcript.whisper_model: run:<name>`: a model that a run of the same configuration trains."""

from collections.abc import Mapping

from spark_trainer.config.run import Run
from spark_trainer.config.section import ConfigError
from spark_trainer.config.transcript import TRAINED, Transcript

KEY = "transcript.whisper_model"
CT2 = "ct2"  # folder in `final/` of what faster-whisper reads


def run_of(transcript: Transcript) -> str | None:
    """Return the run whose model transcribes; None where it is none of this configuration."""
    model = transcript.whisper_model
    heard = transcript.enabled and transcript.model_backend
    named = heard and model.startswith(TRAINED)
    return model.removeprefix(TRAINED) if named else None


def check(transcript: Transcript, runs: Mapping[str, Run]) -> None:
    """Look whether the named run can be trained before anything is transcribed.

    Raises:
        ConfigError: there is no such run, it trains no speech model or saves none that the backend
            reads, or it needs the transcripts itself.
    """
    name = run_of(transcript)
    if name is None:
        return
    if name not in runs:
        known = ", ".join(f"{TRAINED}{run}" for run in runs) or "a run; train is not configured"
        raise ConfigError(f"{KEY}: expected {known} (got {transcript.whisper_model!r})")
    run, where = runs[name], f"train.runs.{name}"
    if run.kind != "speech":
        raise ConfigError(f"{KEY}: expected {where}.model_type: asr (got {run.model_type!r})")
    if run.manifest_path is None:
        raise ConfigError(f"{cycle(name)}; expected {where}.manifest_path, a manifest that exists")
    if transcript.model_backend == "faster-whisper" and CT2 not in run.asr.export:
        raise ConfigError(f"{KEY}: faster-whisper reads {CT2}; expected it in {where}.asr.export")


def cycle(name: str) -> str:
    """Say why a run on the manifest built here can't make its own transcripts."""
    return (
        f"{KEY}: {TRAINED}{name} is a cycle: transcript waits for the run {name}, the run for the "
        "manifest built here, and the manifest for transcript"
    )
