"""What a file of references says in one place, and what is wrong with that."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from spark_trainer.config.transcript import WHISPER_LANGUAGES
from spark_trainer.data.jsonl import shown
from spark_trainer.data.plain import NO_TEXT
from spark_trainer.speech.files import CONTROL


@dataclass(frozen=True)
class Cue:
    """A text with its place in a file, and when it is said in the video, where that is told.

    Attributes:
        place: setting, file and line, for messages.
        text: what is said.
        start: seconds from the start of the video's sound; None where there are no times.
        end: the same.
        language: Whisper's code; None where it isn't told.
    """

    place: str
    text: str
    start: float | None = None
    end: float | None = None
    language: str | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with it, whatever the video; each names its place."""
        yield from (f"{self.place}: {problem}" for problem in self._problems())

    def _problems(self) -> Iterator[str]:
        if not self.text:
            yield "without text"
        if command := CONTROL.search(self.text):
            yield f"its text holds {command[0]}, which Whisper takes as a command"
        if sign := NO_TEXT.search(self.text):
            yield f"its text holds U+{ord(sign[0]):04X}, which is no character of a text"
        if self.language is not None and self.language not in WHISPER_LANGUAGES:
            yield f"language: expected a code that Whisper knows (got {shown(self.language)})"
        if (self.start is None) != (self.end is None):
            yield "expected start and end, or none of the two"
        elif self.start is not None and self.end is not None:
            if not (math.isfinite(self.end) and 0 <= self.start < math.inf):
                yield f"expected seconds from 0 on (got {self.start:g} to {self.end:g})"
            elif self.end <= self.start:
                yield f"it ends at {self.end:g} s, and starts at {self.start:g} s"
