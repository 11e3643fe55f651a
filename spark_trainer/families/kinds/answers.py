"""The answers that a model which learns from rewards gives to a question, on a page."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.families.kinds.generated import Generated, GeneratedText, template

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_FRAMES = 12  # of a question that are shown
HEIGHT_PX = 120


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer and what it got.

    Attributes:
        text: without control tokens.
        reward: all rewards in one; None where none applies.
        parts: name of a reward -> what it gives by itself.
        advantage: how much better it is than the others; None of the likeliest answer, which is
            none of the group.
    """

    text: str
    reward: float | None
    parts: Mapping[str, float | None]
    advantage: float | None = None


@dataclass(frozen=True)
class GeneratedAnswers(GeneratedText):
    """The likeliest answer to a question, and a group of answers that were drawn.

    `caption` is the reference, `generated` the likeliest answer; `times` are seconds.
    """

    prompt: str
    times: Sequence[float]
    likeliest: ScoredAnswer
    drawn: Sequence[ScoredAnswer]

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Generated`; there are no files."""
        return super().save(folder) | {
            "prompt": self.prompt,
            "likeliest": asdict(self.likeliest),
            "answers": [asdict(one) for one in self.drawn],
        }

    def section(self) -> str:
        """See `Generated`; the frames are in it, and texts are shown as they are."""
        return _section(self, self.likeliest)


@dataclass(frozen=True)
class LearntAnswers(Generated):
    """A group of answers to a question that an update learnt from, as they were drawn.

    `caption` is the reference; `times` are seconds.
    """

    caption: str
    prompt: str
    images: "Sequence[Image]"
    times: Sequence[float]
    drawn: Sequence[ScoredAnswer]

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Generated`; there are no files."""
        return {
            "video": self.video,
            "caption": self.caption,
            "prompt": self.prompt,
            "answers": [asdict(one) for one in self.drawn],
        }

    def described(self, folder: Path) -> str:
        return f"{len(self.drawn)} answers (manifest: {self.caption!r})"

    def section(self) -> str:
        """See `GeneratedAnswers`."""
        return _section(self)


def _section(one: GeneratedAnswers | LearntAnswers, likeliest: ScoredAnswer | None = None) -> str:
    """Return frames, question, reference, and a table of the answers, the likeliest one first."""
    count = min(MOST_FRAMES, len(one.images))
    chosen = [round(i * (len(one.images) - 1) / max(1, count - 1)) for i in range(count)]
    frames = [(_as_url(one.images[number]), one.times[number]) for number in chosen]
    answers = [*one.drawn] if likeliest is None else [likeliest, *one.drawn]
    told = {"one": one, "frames": frames, "answers": answers, "likeliest": likeliest}
    return template("answers").render(told, spelled=_spelled)


def _spelled(value: float | None) -> str:
    """Return a score as the page shows it."""
    return "–" if value is None else f"{value + 0:.3g}"  # a -0.0 becomes 0


def _as_url(image: "Image") -> str:
    """Return a small picture as an address that holds it."""
    small = image.convert("RGB")
    small.thumbnail((4 * HEIGHT_PX, HEIGHT_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
