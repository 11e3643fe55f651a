"""What a format is: a module in formats/, called like its value of `to`.

READ_BY    who reads it, as the data card says
PACKAGES   the distributions that writing it needs
MEDIA      what `media` may be, its default first
PATHS      whether its files say where the videos are
TEXTS      how many texts of a video it takes: none, one or several
SPOKEN     whether a video needs the times of what is said in it
ENDINGS    the endings of files that its reader finds; None for any
OPTIONS    keys of the settings that only some formats have, and it has
write      writes its files
loading    says how they are loaded, as the data card shows it
"""

from typing import TYPE_CHECKING, Literal, Protocol

from spark_trainer.config.exports import Media

if TYPE_CHECKING:
    from spark_trainer.exports.dataset import DataSet

NONE, ONE, SEVERAL = 0, 1, 2


class Format(Protocol):
    """What a format's module offers."""

    READ_BY: str
    PACKAGES: tuple[str, ...]
    MEDIA: tuple[Media, ...]
    PATHS: bool
    TEXTS: Literal[0, 1, 2]
    SPOKEN: bool
    ENDINGS: frozenset[str] | None
    OPTIONS: tuple[str, ...]

    def write(self, data: "DataSet") -> None: ...

    def loading(self, data: "DataSet") -> str: ...
