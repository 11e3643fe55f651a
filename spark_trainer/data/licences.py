"""Under which licences videos are, as far as their own facts tell."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

KEYS = ("license", "licence")  # of `meta`
UNKNOWN = "not known"


def of(facts: Mapping[str, Any]) -> str:
    """Return the licence that facts of a video tell; `UNKNOWN` where they tell none."""
    return next((str(facts[key]) for key in KEYS if facts.get(key)), UNKNOWN)


def counted(videos: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Count videos by licence."""
    return Counter(map(of, videos))


def told(counts: Mapping[str, int]) -> str:
    """Write such counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name}: {count:,}" for name, count in ordered) or UNKNOWN
