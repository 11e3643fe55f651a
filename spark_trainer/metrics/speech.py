"""Error rates of recognised speech: edits per hundred words or characters of the references.

Texts are compared after the normalisers of Whisper's authors (Radford et al. 2022, appendix C;
openai-whisper, `normalizers/`): `EnglishTextNormalizer` for English, `BasicTextNormalizer` for the
other languages. That one replaces vowel signs by spaces, so in scripts that have them characters
are counted instead of words, after a normaliser that keeps them; so they are in languages written
without spaces. A rate is taken over all texts together, not the mean of each text's.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import cast

from rapidfuzz.distance import Levenshtein

WITHOUT_SPACES = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})
WITH_VOWEL_SIGNS = frozenset(
    {"as", "bn", "gu", "hi", "kn", "ml", "mr", "ne", "pa", "sa", "si", "ta", "te", "yi"}
)
BY_CHARACTERS = WITHOUT_SPACES | WITH_VOWEL_SIGNS

BRACKETED = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]+?\)")  # as in `BasicTextNormalizer`


@dataclass(frozen=True)
class Edits:
    """What turns references into what was said, in words or in characters.

    Attributes:
        substitutions: units said in the place of others.
        deletions: units of the references that were not said.
        insertions: units said that are in no reference.
        length: units of the references.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    def __add__(self, other: "Edits") -> "Edits":
        return Edits(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def rate(self) -> float:
        """Return the edits per hundred units of the references, of which there must be some."""
        return 100 * (self.substitutions + self.deletions + self.insertions) / self.length


def edits(said: Sequence[str], reference: Sequence[str]) -> Edits:
    """Count the fewest edits between two texts, given as words or as characters."""
    counts = {"replace": 0, "delete": 0, "insert": 0}
    for operation in Levenshtein.editops(reference, said):
        counts[operation.tag] += 1
    return Edits(counts["replace"], counts["delete"], counts["insert"], len(reference))


@dataclass(frozen=True)
class Pair:
    """What was said and what should have been, both normalised."""

    said: str
    reference: str
    language: str

    @classmethod
    def of(cls, said: str, reference: str, language: str) -> "Pair":
        """Normalise two texts of a language, given by Whisper's code."""
        return cls(normalised(said, language), normalised(reference, language), language)

    def words(self) -> Edits:
        """Count edits of words."""
        return edits(self.said.split(), self.reference.split())

    def characters(self) -> Edits:
        """Count edits of characters (code points), spaces between words included."""
        return edits(self.said, self.reference)

    def marked(self) -> str:
        """Return the reference with its edits marked as wdiff does: `the [-old-]{+new+} text`.

        Words are marked; in languages without spaces, characters.
        """
        spaced = self.language not in WITHOUT_SPACES
        wanted: Sequence[str] = self.reference.split() if spaced else self.reference
        said: Sequence[str] = self.said.split() if spaced else self.said
        between = " " if spaced else ""
        parts = []
        for one in Levenshtein.opcodes(wanted, said):
            old = between.join(wanted[one.src_start : one.src_end])
            new = between.join(said[one.dest_start : one.dest_end])
            marks = (f"[-{old}-]" if old else "") + (f"{{+{new}+}}" if new else "")
            parts.append(old if one.tag == "equal" else marks)
        return between.join(parts)


def scores(
    said: Sequence[str],
    references: Sequence[str],
    languages: Sequence[str],
    words: Iterable[str] = (),
) -> dict[str, float]:
    """Compute error rates of texts against their references; the rates are per hundred.

    - `wer`: edits of words; without the languages that are counted by characters.
    - `cer`: edits of characters, of all languages.
    - `wer_<language>` or `cer_<language>`: of each language, where there are several.
    - `wer_raw`: edits of words as they are written, with case and punctuation.
    - `substitutions`, `deletions`, `insertions`: the edits in `wer`, or in `cer` where there is
      none. A reference that is empty once normalised is in no rate; what was said for it counts as
      insertions.
    - `words_recall`: how many of a user's words in the references were said.
    - `text_on_silence`: how many of the windows without any reference got a text.

    What there is nothing to measure by is not among them.

    Args:
        said: what was recognised.
        references: what was said in truth; empty where nothing was.
        languages: Whisper's code of each text's language.
        words: the words whose recall is asked for.

    Raises:
        ValueError: not as many texts as references and languages.
    """
    if not len(said) == len(references) == len(languages):
        numbers = f"{len(said)} texts, {len(references)} references, {len(languages)} languages"
        raise ValueError(f"{numbers}; expected one of each for every text")
    pairs = [Pair.of(*one) for one in zip(said, references, languages, strict=True)]
    found = _rates(pairs)
    several = dict.fromkeys(languages) if len(set(languages)) > 1 else ()
    for language in several:
        unit = "cer" if language in BY_CHARACTERS else "wer"
        own = _rates([pair for pair in pairs if pair.language == language])
        found |= {f"{unit}_{language}": own[unit]} if unit in own else {}
    raw = [
        edits(text.split(), reference.split())
        for text, reference, language in zip(said, references, languages, strict=True)
        if reference.strip() and language not in WITHOUT_SPACES
    ]
    found |= {"wer_raw": sum(raw, Edits()).rate} if raw else {}
    silent = [pair for pair, text in zip(pairs, references, strict=True) if not text.strip()]
    if silent:
        found["text_on_silence"] = 100 * sum(bool(pair.said) for pair in silent) / len(silent)
    return found | _recall(pairs, list(words))


def _rates(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the rates and the edits of texts, as `scores` does."""
    spoken = [pair for pair in pairs if pair.reference]
    by_words = [pair.words() for pair in spoken if pair.language not in BY_CHARACTERS]
    rates = {"wer": by_words, "cer": [pair.characters() for pair in spoken]}
    found = {name: sum(counted, Edits()).rate for name, counted in rates.items() if counted}
    counted = sum(by_words or rates["cer"], Edits())
    invented = sum(len(pair.said.split()) for pair in pairs if not pair.reference)
    return found | {
        "substitutions": counted.substitutions,
        "deletions": counted.deletions,
        "insertions": counted.insertions + invented,
    }


def _recall(pairs: Sequence[Pair], words: Sequence[str]) -> dict[str, float]:
    """Return the share of a list's words in the references that were said in the same text."""
    listed = {
        language: {normalised(word, language) for word in words} - {""}
        for language in {pair.language for pair in pairs}
    }
    there = right = 0
    for pair in pairs:
        for word in listed[pair.language]:
            wanted = _occurrences(word, pair.reference, pair.language)
            there += wanted
            right += min(wanted, _occurrences(word, pair.said, pair.language)) if wanted else 0
    return {"words_recall": 100 * right / there} if there else {}


def _occurrences(word: str, text: str, language: str) -> int:
    if language in WITHOUT_SPACES:
        return text.count(word)
    return len(re.findall(rf"(?<!\S){re.escape(word)}(?!\S)", text))


def normalised(text: str, language: str) -> str:
    """Return a text of a language as it is compared."""
    if language in BY_CHARACTERS:
        return _with_vowel_signs(text, "" if language in WITHOUT_SPACES else " ")
    return _normaliser(language == "en")(text).strip()


@functools.cache
def _normaliser(english: bool) -> Callable[[str], str]:
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

    made = EnglishTextNormalizer() if english else BasicTextNormalizer()
    return cast("Callable[[str], str]", made)


def _with_vowel_signs(text: str, between: str) -> str:
    """Do what `BasicTextNormalizer` does, but keep marks (category M), which spell vowels."""
    plain = unicodedata.normalize("NFKC", BRACKETED.sub("", text.lower()))
    signs = (" " if unicodedata.category(sign)[0] in "SP" else sign for sign in plain)
    return between.join("".join(signs).split())
