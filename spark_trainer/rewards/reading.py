"""Reading what an answer says: the part in tags, plain words, numbers, intervals."""

import math
import re
import unicodedata
from dataclasses import dataclass

TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
ARTICLES = re.compile(r"\b(?:a|an|the)\b")
NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-+]?)(?P<digits>\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))"
    r"(?P<rest>(?:\.\d+)?(?:[eE][-+]?\d+)?)(?P<percent>\s?%)?"
)
MINUS = str.maketrans("\u2212\u2013\u2014", "---")  # signs that are typed as dashes

CLOCK = r"(?:\d+:){0,2}\d+(?:\.\d+)?"
UNIT = r"\s*(?:seconds?|secs?|s)?\b"
INTERVAL = re.compile(
    rf"(?<![\d.:])({CLOCK}){UNIT}\s*(?:-|,|to\b|until\b|and\b)\s*({CLOCK})", re.IGNORECASE
)

LONGEST_SHOWN = 400  # characters of an answer in a message

Interval = tuple[float, float]  # seconds from the video's start


def in_tags(text: str, required: bool = False) -> str:
    """Return what stands in the last `<answer>…</answer>`; without one the whole text.

    Args:
        text: an answer or a reference.
        required: without tags nothing is said.
    """
    found = TAGGED.findall(text)
    if found:
        return str(found[-1]).strip()
    return "" if required else text.strip()


def normalized(text: str) -> str:
    """Return a text as it is compared: NFKC, casefold, no punctuation, no articles, single spaces.

    That is the normalisation of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250), for any script.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(sign for sign in folded if not unicodedata.category(sign).startswith("P"))
    return " ".join(ARTICLES.sub(" ", plain).split())


@dataclass(frozen=True)
class Number:
    """A number as it was written; `percent` is whether a % stood behind it."""

    value: float
    percent: bool

    def away_from(self, other: "Number") -> float:
        """Return the distance; where one of the two has a %, 50 % is 50 or 0.5, the closer one."""
        plain = abs(self.value - other.value)
        if self.percent == other.percent:
            return plain
        own, theirs = (one.value / 100 if one.percent else one.value for one in (self, other))
        return min(plain, abs(own - theirs))


def number(text: str) -> Number | None:
    """Return the one number of a text; None without any, with several, or with an infinite one."""
    found = list(NUMBER.finditer(unicodedata.normalize("NFKC", text).translate(MINUS)))
    if len(found) != 1:
        return None
    [one] = found
    value = float(one["sign"] + (one["digits"].replace(",", "") or "0") + one["rest"])
    return Number(value, bool(one["percent"])) if math.isfinite(value) else None


def intervals(text: str) -> list[Interval]:
    """Return the intervals that a text names, in its order, such as `[1.5, 3]` or `0:12 to 0:15`.

    Both ends may be seconds or clock times, with `to`, `until`, `and`, a comma or a dash between.
    """
    plain = unicodedata.normalize("NFKC", text).translate(MINUS)
    return [(_seconds(one[1]), _seconds(one[2])) for one in INTERVAL.finditer(plain)]


def _seconds(clock: str) -> float:
    """Return `1:02:03.5` in seconds."""
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def shown(text: str) -> str:
    """Return an answer as a message shows it: quoted, on one line, its end cut off."""
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…")
