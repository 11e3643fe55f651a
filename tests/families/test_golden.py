"""The losses of each family's first updates are those that were kept."""

import importlib

import pytest

from spark_trainer import families

from . import golden


def _module(name: str) -> families.Family:
    return importlib.import_module(f"spark_trainer.families.{name}")


@pytest.mark.parametrize("variant", [*golden.VARIANTS, *golden.FILMS])
def test_losses_are_those_that_were_kept(variant: str) -> None:
    """On purpose: `python -m tests.families.golden --fix`, and a commit that says why."""
    assert golden.losses(variant) == (golden.FOLDER / f"{variant}.txt").read_text()


def test_every_family_has_its_losses() -> None:
    told = {name for name in families.names() if _module(name).MODEL_TYPES}
    assert told <= {*golden.VARIANTS, *golden.FILMS}
