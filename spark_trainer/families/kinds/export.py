"""What `final/` says of itself: how upstream's classes load what is in it."""

from dataclasses import dataclass
from pathlib import Path

from spark_trainer.config import Run


@dataclass(frozen=True)
class Loading:
    """How a model is loaded: by which library, as what hubs call it, by which lines of Python.

    `base` is the hub's name of the weights that it began from, where `model_name` is another;
    `licence` is that of weights that came without a card.
    """

    library: str
    tag: str
    lines: str
    base: str | None = None
    licence: str | None = None


def saves_adapter(run: Run) -> bool:
    """Tell whether a run leaves low-rank adapters alone, without the weights below them."""
    return run.finetune != "full" and run.save == "adapter"


def local_base(run: Run) -> str | None:
    """Return the name of the folder that a run's base lies in; None where the base is a hub's.

    Of a run's weights it is the run's: a card's lines call their own folder `final`.
    """
    path = Path(run.model_name).expanduser()
    if not path.exists():
        return None
    folder = path.resolve()
    return folder.name if run.base_run is None else folder.parent.name
