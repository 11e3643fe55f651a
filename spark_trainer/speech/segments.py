"""The unit that everything about speech is made of: what is said from one moment to another."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Segment:
    """What is said in a stretch of a file.

    Attributes:
        start: seconds from the file's start.
        end: the same.
        text: what is said, without a space at either end.
        language: Whisper's code, such as `en`; None where nobody says it.
        place: where it is read from, for messages: setting, file and line; None of a manifest.
    """

    start: float
    end: float
    text: str
    language: str | None = None
    place: str | None = field(default=None, compare=False)
