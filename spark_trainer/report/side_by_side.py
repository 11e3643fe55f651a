"""What a run made of a held-out sample, before training and after, in rows below one another."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unicodedata import category

from rapidfuzz.distance import Levenshtein

from spark_trainer.metrics import speech
from spark_trainer.system import log

WIDTH = 68  # columns of a text, so that a row fits on a terminal of 100
SENTENCE_ENDS = (".", "?", "!")
HEARD = ("said", "heard before", "heard after")
WRITTEN = ("caption", "written before", "written after")

Column = Sequence[str]  # a word of a reference, and what was heard for it each time


def rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return three lines: what it should be, what it was before training, and after.

    Of speech it is one sentence, the first that was not heard right both times; words that were
    heard otherwise stand in brackets.

    Args:
        before: the record of a sample, as `samples/` has it.
        after: the same of a later update.
    """
    if "edits" not in after:
        texts = [after["caption"], before["generated"], after["generated"]]
        return _named(WRITTEN, [_fitting(log.plain(text)) for text in texts])
    texts = [log.plain(text) for text in (after["reference"], before["text"], after["text"])]
    if after["language"] in speech.WITHOUT_SPACES or not texts[0].split():
        return _named(HEARD, [_fitting(text) for text in texts])
    return _named(HEARD, _aligned(texts[0].split(), texts[1:]))


def _named(names: Sequence[str], texts: Sequence[str]) -> list[str]:
    width = max(map(len, names))
    return [f"{name:<{width}}  {text}".rstrip() for name, text in zip(names, texts, strict=True)]


def _fitting(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def _aligned(words: Sequence[str], heard: Sequence[str]) -> list[str]:
    """Return a sentence of a reference and what was heard for it, word below word."""
    sides = [_heard(words, text.split()) for text in heard]
    shown = _fitting_columns(_telling(list(zip(words, *sides, strict=True))))
    widths = [max(map(len, column)) for column in shown]
    return [
        " ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
        for row in zip(*shown, strict=True)
    ]


def _heard(words: Sequence[str], heard: Sequence[str]) -> list[str]:
    """Return what was heard for each word of a reference; what is too much goes to a neighbour."""
    changes = list(Levenshtein.opcodes(_plain(words), _plain(heard)))
    found: list[list[str]] = []
    ahead: list[str] = []  # heard before the next word
    for number, one in enumerate(changes):
        texts = list(heard[one.dest_start : one.dest_end])
        if one.tag == "insert":
            following = changes[number + 1 : number + 2]
            wrong = [next_ for next_ in following if next_.tag != "equal"]
            (ahead if wrong or not found else found[-1]).extend(texts)
            continue
        for place in range(one.src_end - one.src_start):
            found.append([*ahead, *texts[place : place + 1]])
            ahead = []
    return [
        " ".join(texts) if _plain(texts) == _plain([word]) else f"[{' '.join(texts)}]"
        for texts, word in zip(found, words, strict=True)
    ]


def _plain(words: Sequence[str]) -> list[str]:
    """Return words as they are compared: without case and punctuation.

    The error rates compare more, but by a package that takes seconds to import.
    """
    return ["".join(c for c in word.casefold() if category(c)[0] not in "PS") for word in words]


def _telling(columns: Sequence[Column]) -> Sequence[Column]:
    """Return the first sentence in which anything is marked; else the first one."""
    sentences = list(_sentences(columns))
    marked = (one for one in sentences if any("[" in text for _, *heard in one for text in heard))
    return next(marked, sentences[0])


def _sentences(columns: Sequence[Column]) -> Iterator[list[Column]]:
    sentence: list[Column] = []
    for column in columns:
        sentence.append(column)
        if column[0].endswith(SENTENCE_ENDS):
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _fitting_columns(columns: Sequence[Column]) -> list[Column]:
    """Return as many of the columns as a row can take, at least one."""
    shown, width = list[Column](), 0
    for column in columns:
        width += max(map(len, column)) + 1
        if width > WIDTH and shown:
            return [*shown, ["…"] * len(column)]
        shown.append(column)
    return shown
