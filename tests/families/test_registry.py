"""A checkpoint finds its family, and a family says which components of a pipeline encode."""

from pathlib import Path

import pytest

from spark_trainer import families, methods
from spark_trainer.config import Run
from spark_trainer.data import encoded, models
from spark_trainer.data.files import file_digest

from . import tiny, tiny_pipelines
from .golden import DIFFUSION

# What named the components of any pipeline that encode nothing, before families said it.
TRAINED = ("unet", "transformer", "motion_adapter")


def test_every_family_declares_what_its_kind_asks_for() -> None:
    found = families.known()
    assert found
    types = [one for family in found.values() for one in family.model_types]
    assert len(types) == len(set(types))
    for name, family in found.items():
        assert family.parts, name
        assert {*family.frozen} < {*family.parts}, name
        assert family.tag, name
        assert family.lora_targets, name
        assert methods.model_types(family.kind), name


@pytest.mark.parametrize("name", DIFFUSION)
def test_what_was_encoded_ahead_keeps_its_name(name: str, tmp_path: Path) -> None:
    """A store that was filled before is taken over: its folder's name follows from this."""
    folder = getattr(tiny_pipelines, name)(tmp_path / "pipeline")
    run, cache = Run(model_name=str(folder)), tmp_path / "models.json"
    parts = [path for path in folder.iterdir() if path.is_dir()]
    read = [part for part in parts if part.name not in (*TRAINED, *encoded.NO_WEIGHTS)]
    shapes = [folder / "model_index.json", *(folder / part / "config.json" for part in TRAINED)]
    weights = {part.name: models.identity(str(part), cache) for part in read}
    weights |= {str(p.relative_to(folder)): file_digest(p) for p in shapes if p.is_file()}
    named = encoded.encoders(run, families.trained_components(str(folder)), cache)
    assert named["weights"] == weights
    assert len(read) >= 3


def test_what_is_no_pipeline_has_no_components(tmp_path: Path) -> None:
    assert families.trained_components(str(tiny.blip(tmp_path / "blip"))) == ()
    assert families.trained_components("a/hub-id") == ()
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    assert families.trained_components(str(tmp_path)) == ()
