"""What this project wrote, told by names: whatever else lies in its folders is the user's."""

from collections.abc import Callable, Iterator
from pathlib import Path

from spark_trainer import steps
from spark_trainer.data.encoded import SHARED
from spark_trainer.data.layout import SEALED
from spark_trainer.system import holder

PAGE = '<meta name="generator" content="SparkTrainer">'  # stands in each of its pages
LOG = ("spark_trainer.log", "jobs", "config.yaml")


def of_video(name: str) -> bool:
    """Tell whether a video's folder holds such a file or folder: each begins with its step."""
    return name.partition(".")[0] in steps.STEPS or leftover(name)


def of_encoder(name: str) -> bool:
    """Tell whether the folder of some encoders does."""
    return name in (*SHARED, SEALED) or hexadecimal(name, 2) or leftover(name)


def of_log(name: str) -> bool:
    """Tell whether the folder of a command's log does."""
    return name in LOG or leftover(name)


def others(folder: Path, own: Callable[[str], bool]) -> Iterator[Path]:
    """Yield what lies in a folder and is not this project's.

    Args:
        folder: the folder.
        own: tells it of a name.
    """
    yield from (path for path in sorted(folder.iterdir()) if not own(path.name))


def hexadecimal(name: str, digits: int) -> bool:
    """Tell whether a name is so many digits of a digest."""
    return len(name) == digits and not name.strip("0123456789abcdef")


def leftover(name: str) -> bool:
    """Tell whether a process that was killed left it."""
    return name.startswith(".") and name.endswith(".tmp") and holder.parse(name) is not None
