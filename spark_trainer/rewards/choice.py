"""Reward `choice`: the answer names the right one of several options."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from spark_trainer.data.sample import Unusable
from spark_trainer.rewards import reading
from spark_trainer.rewards.base import Comparing

# `B`, `(B)`, `B.`, `B: a dog`; of a text that goes on, only a sign tells a letter from a word.
LEADING = re.compile(r"\(?([A-Za-z])(?:\)?\s*$|[).:]+\s*(.*))", re.DOTALL)
# A capital alone. An A before a word in lower case is an article, unless none stands before such.
ALONE = re.compile(r"(?<![\w'])(?!A\s+(?!(?:and|because|is|or|since)\b)[a-z])([A-Z])(?![\w'])")


@dataclass(frozen=True)
class Options:
    """Letter -> the option's text as it is compared, and the right letter."""

    texts: dict[str, str]
    right: str = ""

    def named(self, said: str) -> set[str]:
        """Return the letters that a text names, by themselves or by their options' texts."""
        said = said.strip()
        if whole := self._of_text(said):
            return whole
        if lead := LEADING.fullmatch(said):
            return {lead[1].upper()} | self._of_text(lead[2] or "")
        return {letter for letter in ALONE.findall(said) if letter in self.texts}

    def _of_text(self, said: str) -> set[str]:
        plain = reading.normalized(said)
        return {letter for letter, text in self.texts.items() if text and text == plain}


class Choice(Comparing[Options]):
    """1 where the answer names the right option alone; two letters are 0.

    `meta.options` lists the options, as `["A. a dog", "B. a cat"]` or without the letters.
    """

    name = "choice"
    problem_types = ("multiple choice",)

    def read(self, reference: str, meta: Mapping[str, Any]) -> Options:
        """Return the options and the right one; see `Comparing`."""
        options = Options(_lettered(meta.get("options")))
        named = options.named(reference)
        if len(named) != 1 or not named <= options.texts.keys():
            raise Unusable(
                f"choice: the reference {reference!r} names none of the options "
                f"{', '.join(options.texts)}, or several"
            )
        return Options(options.texts, *named)

    def score(self, said: str, wanted: Options) -> float:
        """See `Comparing`."""
        return float(wanted.named(said) == {wanted.right})


def _lettered(options: Any) -> dict[str, str]:
    """Return letter -> text; letters that the options begin with are theirs if all have one.

    Raises:
        Unusable: there are no such options, or two are one.
    """
    if not isinstance(options, list | tuple) or not all(isinstance(one, str) for one in options):
        raise Unusable("choice: expected a list of texts in meta.options")
    if not 2 <= len(options) <= len(ascii_uppercase):
        raise Unusable(f"choice: expected 2 to {len(ascii_uppercase)} options (got {len(options)})")
    letters = ascii_uppercase[: len(options)]
    lead = [LEADING.fullmatch(one.strip()) for one in options]
    own = all(
        found and found[1].upper() == letter for found, letter in zip(lead, letters, strict=True)
    )
    plain = [found[2] or "" for found in lead if found] if own else list(options)
    texts = [reading.normalized(text) for text in plain]
    known = [text for text in texts if text]
    if len(set(known)) < len(known):
        raise Unusable("choice: two of its options are the same")
    return dict(zip(letters, texts, strict=True))
