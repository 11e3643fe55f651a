"""What a format is: a module in formats/, called like its value of `to`, has one as FORMAT."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spark_trainer.config.exports import Media

if TYPE_CHECKING:
    from spark_trainer.exports.dataset import DataSet

NONE: Literal[0] = 0
ONE: Literal[1] = 1
SEVERAL: Literal[2] = 2
TAGS = ("<video>", "<image>", "<audio>")  # of ms-swift and LLaMA-Factory


@dataclass(frozen=True, kw_only=True)
class Format:
    """How a data set is written for a tool.

    Attributes:
        read_by: who reads it, as the data card says.
        packages: the distributions that writing it needs.
        media: what `media` may be, its default first.
        paths: whether its files say where the videos are.
        texts: how many texts of a video it takes: none, one or several.
        spoken: whether a video needs the times of what is said in it.
        tags: what its reader takes for a video, picture or sound, wherever it stands in a text.
        endings: the endings of files that its reader finds; None for any.
        options: keys of the settings that only some formats have, and it has.
        write: writes its files.
        loading: says how they are loaded, as the data card shows it.
    """

    read_by: str
    packages: tuple[str, ...] = ()
    media: tuple[Media, ...]
    paths: bool = False
    texts: Literal[0, 1, 2] = NONE
    spoken: bool = False
    tags: tuple[str, ...] = ()
    endings: frozenset[str] | None = None
    options: tuple[str, ...] = ()
    write: "Callable[[DataSet], None]"
    loading: "Callable[[DataSet], str]"
