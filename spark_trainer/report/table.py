"""Rows of a summary: a name, and lines that stand below each other."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Line(NamedTuple):
    """A line of a summary, and the video that it tells of, if any."""

    text: str
    video: str = ""

    @property
    def logged(self) -> str:
        """Return it as the log has it: with the hash, so that it goes when a video is forgotten."""
        return f"{self.text}  ({self.video[:12]})" if self.video else self.text


Row = tuple[str, Sequence[Line]]


def row(name: str, *texts: str) -> Row:
    """Return a row of lines that are about no video, or about all."""
    return name, [Line(text) for text in texts]


def lines(rows: Iterable[Row]) -> list[Line]:
    """Return the lines of a table: texts below each other, and each name before its first one."""
    known = list(rows)
    width = max((len(name) for name, _ in known), default=0) + 1
    return [
        line._replace(text=f"{'' if place else name:>{width}}  {line.text}".rstrip())
        for name, told in known
        for place, line in enumerate(told)
    ]
