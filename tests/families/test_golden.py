"""The losses of each family's first updates are those that were kept."""

import pytest

from spark_trainer import families

from . import golden


@pytest.mark.parametrize("variant", [*golden.VARIANTS, *golden.DIFFUSION, *golden.SPEECH])
def test_losses_are_those_that_were_kept(variant: str) -> None:
    """On purpose: `python -m tests.families.golden --fix`, and a commit that says why."""
    assert golden.losses(variant) == (golden.FOLDER / f"{variant}.txt").read_text()


def test_every_family_has_its_losses() -> None:
    assert families.known().keys() <= {*golden.VARIANTS, *golden.DIFFUSION, *golden.SPEECH}
