"""What a model hears in sound while it trains, as people look at it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_trainer.families.kinds.generated import Generated
from spark_trainer.metrics import speech


@dataclass(frozen=True)
class GeneratedTranscript(Generated):
    """A text of a window of sound, beside what is said in it.

    Attributes:
        start: where the window begins, in seconds from the start of the video's sound.
        reference: what is said in the window; empty where nothing is.
        text: what the model heard.
        language: Whisper's code.
    """

    start: float
    reference: str
    text: str
    language: str

    @property
    def edits(self) -> str:
        """Return the reference with what was heard otherwise, as the error rate counts it."""
        return speech.Pair.of(self.text, self.reference, self.language).marked()

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Generated`; there are no files."""
        return {
            "video": self.video,
            "start": self.start,
            "reference": self.reference,
            "text": self.text,
            "edits": self.edits,
            "language": self.language,
        }

    def described(self, folder: Path) -> str:
        """See `Generated`."""
        return f"at {self.start:g} s {self.text!r}, edits: {self.edits}"


def scores(shown: Iterable[dict[str, Any]], words: Iterable[str] = ()) -> dict[str, float]:
    """Compute the error rates of transcripts from their records in `samples/`.

    Args:
        shown: what `GeneratedTranscript.save` returned.
        words: the user's words whose recall is asked for.

    Returns:
        as `metrics.speech.scores`; nothing where nothing is shown.
    """
    records = list(shown)
    if not records:
        return {}
    said, references, languages = (
        [one[key] for one in records] for key in ("text", "reference", "language")
    )
    return speech.scores(said, references, languages, words)
