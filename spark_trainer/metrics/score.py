"""The scores of generated texts: what they are called, and how their values are written.

What computes them is beside this, in a file for each kind of text; whoever passes scores on, to the
summary, the model card or the table of runs, asks here which of a run's metrics are scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass

LONG = "_long"  # after a score of whole files, as the project's transcriber hears them
WHOLE_FILES = "wer.json"  # beside the weights: what was heard in each of these files
FORGETTING = "forgetting_"  # before a score of a second manifest, `asr.forgetting`


@dataclass(frozen=True)
class Score:
    """How a score is shown.

    Attributes:
        form: of its values, as `format` takes it.
        column: whether the table of runs has a column for it.
        followed: whether it is shown beside its value before training.
    """

    form: str
    column: bool = False
    followed: bool = False


RATE = Score(".1f", column=True, followed=True)  # per hundred words or characters
COUNT = Score(".0f")

SCORES = {
    "bleu": Score(".1f", column=True),
    "rouge_l": Score(".3f", column=True),
    "cider": Score(".2f", column=True),
    "wer": RATE,
    "cer": RATE,
    "wer_raw": Score(".1f"),
    "substitutions": COUNT,
    "deletions": COUNT,
    "insertions": COUNT,
    "words_recall": Score(".1f", followed=True),
    "text_on_silence": Score(".1f", followed=True),
    f"wer{LONG}": RATE,
    f"cer{LONG}": Score(".1f", followed=True),
    f"words_recall{LONG}": Score(".1f", followed=True),
    f"text_on_silence{LONG}": Score(".1f", followed=True),
}
BY_LANGUAGE = ("wer", "cer")  # followed by a language's code, such as `wer_de`


def is_score(name: str) -> bool:
    """Tell whether a metric is a score."""
    name = name.removeprefix(FORGETTING)
    return name in SCORES or name.partition("_")[0] in BY_LANGUAGE


def first_key(name: str) -> str:
    """Return what the value of a score at the first evaluation is called."""
    return f"first_{name}"


def followed(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the scores that are shown beside their first values."""
    return {
        name: value for name, value in scores.items() if name in SCORES and SCORES[name].followed
    }


def known(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the scores among the metrics of an evaluation; without those that are no number.

    They come in the order of `SCORES`: a run that went on from a checkpoint has its metrics in
    another one, and its card is that of a run that was never interrupted.
    """
    found = {name: value for name, value in values.items() if value is not None and is_score(name)}
    return {name: found[name] for name in sorted(found, key=_place)}


def _place(name: str) -> tuple[bool, int, str]:
    """Return where a score stands among others; that of one language is behind that of all."""
    own = name.removeprefix(FORGETTING)
    kind = own if own in SCORES else own.partition("_")[0]
    return name != own, list(SCORES).index(kind), own
