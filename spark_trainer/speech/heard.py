"""A window of sound as a speech model learns it: its samples, and what is said in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_trainer.speech.segments import Segment

if TYPE_CHECKING:
    import numpy as np

# Languages that are written without spaces between words (whisper/tokenizer.py); in them Whisper
# begins no text with one.
UNSPACED = frozenset(("zh", "ja", "th", "lo", "my", "yue"))


@dataclass(frozen=True)
class Said:
    """What is said in a window of sound; times are seconds from the window's start.

    Attributes:
        segments: what is said; none where nobody speaks.
        cut: where the segment begins that the window's end cuts; None where it cuts none.
        previous: the segments before, each with times from the start of its own window.
        language: Whisper's code; None where nobody says it.
        with_times: whether the text is learnt with its times.
    """

    segments: tuple[Segment, ...]
    cut: float | None = None
    previous: tuple[Segment, ...] = ()
    language: str | None = None
    with_times: bool = False

    @property
    def text(self) -> str:
        """Return the text of all segments."""
        return joined(self.segments, self.language)


@dataclass(frozen=True)
class Plan:
    """What a sample will be; no sound is read yet.

    Attributes:
        entry: the manifest's line.
        start: where the window starts, in seconds from the file's start.
        end: where its sound ends.
        said: what is said in it.
        seed: for random choices in training; None where there are none.
    """

    entry: Mapping[str, Any]
    start: float
    end: float
    said: Said
    seed: int | None


@dataclass(frozen=True)
class Heard:
    """A window of a video's sound: samples (N,) at 16 kHz in [-1, 1); the rest as in `Plan`."""

    video: str
    samples: "np.ndarray"
    start: float
    said: Said
    seed: int | None = None


def joined(segments: tuple[Segment, ...], language: str | None) -> str:
    """Return the text of segments, as it is written in their language."""
    return ("" if language in UNSPACED else " ").join(one.text for one in segments)
