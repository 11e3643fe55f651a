"""The captions that the user has already, in files that `labels.captions` names; no model."""

from collections.abc import Sequence
from typing import ClassVar

from spark_trainer.captioners.base import Captioner, Prepared, Shown, Trouble
from spark_trainer.config import Captioning

MODEL_TYPES = ()
PACKAGES = ()
DEFAULT_MODEL = None
PROMPT = ""
SEES_VIDEO = True
NEEDS_GPU = False

NONE = "no caption is given"


class Sidecar(Captioner):
    """Hands on what is given."""

    READS_FRAMES: ClassVar[bool] = False

    def prepare(self, shown: Shown) -> Prepared:
        """Take the label; see `Captioner`."""
        return {"length": 1, "given": shown.label}

    def caption(self, batch: Sequence[Prepared]) -> list[str | Trouble]:
        """Return the labels."""
        return [Trouble(NONE) if one["given"] is None else str(one["given"]) for one in batch]


def load(settings: Captioning, device: str, threads: int) -> Sidecar:
    """See `Captioner`; there is nothing to load."""
    return Sidecar()
