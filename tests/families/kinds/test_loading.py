"""How checkpoints are loaded, whatever the family."""

from pathlib import Path

import diffusers.utils.logging as diffusers_logging
import pytest
import transformers.utils.logging as transformers_logging

from spark_trainer import families
from spark_trainer.families.kinds.loading import LoadOptions, image_to_text
from spark_trainer.speech import formats
from tests.families import tiny, tiny_pipelines


def test_weights_show_no_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In a file or a pipe it would be a line without an end between those of the build."""
    checkpoint = tiny.blip(tmp_path / "blip")
    pipeline = tiny_pipelines.svd(tmp_path / "svd")
    speech = tiny.whisper(tmp_path / "whisper")
    transformers_logging.enable_progress_bar()
    diffusers_logging.enable_progress_bar()
    capfd.readouterr()
    image_to_text(str(checkpoint), LoadOptions())
    transformers_logging.enable_progress_bar()
    families.find(str(pipeline)).load(str(pipeline), LoadOptions())
    transformers_logging.enable_progress_bar()
    formats.build(formats.read(str(speech)))
    assert "%|" not in capfd.readouterr().err
