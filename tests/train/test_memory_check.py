"""A run that can't fit says so before its weights are loaded."""

import os
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.runs.folder import RunFolder
from spark_trainer.train import memory_check

from .conftest import write_run


@pytest.fixture
def folder(make: Any, checkpoint: Path) -> Path:
    """A run of BLIP, eight samples at once."""
    return write_run(make(model_name=str(checkpoint), batch_size=8))


def test_what_fits_is_told(
    make: Any, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = make(model_name=str(checkpoint))
    run = write_run(spec)
    weights = checkpoint / "model.safetensors"
    hidden = weights.rename(tmp_path / "hidden")
    try:
        assert memory_check.main([str(run), str(2**30)]) == 0
    finally:
        hidden.rename(weights)
    heads, values = (line.split() for line in capsys.readouterr().out.splitlines())
    assert heads[-2:] == ["peak", "host"]
    assert values[0] == spec.name


def test_what_does_not_fit_names_settings_that_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert memory_check.main([str(folder), str(10 * 2**20)]) == memory_check.TOO_LARGE
    told = capsys.readouterr().out
    assert "which has 0.0" in told
    assert "with train: {batch_size: 1, global_batch_size: 8" in told


def test_a_run_that_never_fits_says_what_else_helps(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PYTHONPATH", os.getcwd())
    with pytest.raises(memory_check.DoesNotFit, match="fewer or smaller frames"):
        memory_check.before_loading(RunFolder(folder), 1)
