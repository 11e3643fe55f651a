"""What a new step's section declares wrongly is told with the file and the key."""

from typing import ClassVar

import pytest

from spark_trainer.config import STEP_SECTIONS, pipeline
from spark_trainer.config.section import StepSection, ValueType
from spark_trainer.errors import UserError


class Fine(StepSection):
    UPSTREAM: ClassVar[tuple[str, ...]] = ("frames",)
    MANIFEST: ClassVar[dict[str, ValueType]] = {"sharpness": "number", "duration": "number"}
    SHARED: ClassVar[tuple[str, ...]] = ("duration",)


class Misspelt(Fine):
    UPSTREAM: ClassVar[tuple[str, ...]] = ("frmes",)


class Itself(Fine):
    UPSTREAM: ClassVar[tuple[str, ...]] = ("sharpness",)


class Taken(Fine):
    SHARED: ClassVar[tuple[str, ...]] = ()


class Undeclared(Fine):
    SHARED: ClassVar[tuple[str, ...]] = ("duration", "no_sharpness")


BEFORE = "frames, audio, transcript, caption, select, pose"
WRONG = {
    Misspelt: f"UPSTREAM: expected steps that stand before it: {BEFORE} (got 'frmes')",
    Itself: f"UPSTREAM: expected steps that stand before it: {BEFORE} (got 'sharpness')",
    Taken: "MANIFEST: 'duration' is a key of frames; expected another name, or it in SHARED",
    Undeclared: "SHARED: expected keys of MANIFEST (got 'no_sharpness')",
}


def test_a_step_may_share_a_key_that_it_names() -> None:
    pipeline.check({**STEP_SECTIONS, "sharpness": Fine})


@pytest.mark.parametrize("section", WRONG)
def test_what_a_section_declares_wrongly_is_told(section: type[StepSection]) -> None:
    with pytest.raises(UserError) as raised:
        pipeline.check({**STEP_SECTIONS, "sharpness": section})
    line = f"spark_trainer/config/sharpness.py: {WRONG[section]}"
    assert line in str(raised.value).splitlines()
