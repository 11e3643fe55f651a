"""Under which licences videos and models are, as far as their own facts and cards tell."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spark_trainer.system import log

TERMS = ("license", "license_name", "license_link")  # of a model card, as hubs spell them
KEYS = ("license", "licence")  # of `meta`
UNKNOWN = "not known"


def of(facts: Mapping[str, Any]) -> str:
    """Return the licence that facts of a video tell; `UNKNOWN` where they tell none."""
    return next((shown(facts[key]) for key in KEYS if facts.get(key)), UNKNOWN)


def shown(told: Any) -> str:
    """Write a licence, which others wrote, on one line; `UNKNOWN` where there is none."""
    words = ", ".join(map(str, told)) if isinstance(told, list) else str(told or UNKNOWN)
    return log.plain(" ".join(words.split()))


def of_card(card: Path) -> dict[str, Any]:
    """Return the terms that a model card names, spelt as there.

    None where there is no card, or one that nobody can read: others wrote it.
    """
    import yaml
    from huggingface_hub import metadata_load

    try:
        head = metadata_load(card) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return {key: head[key] for key in TERMS if head.get(key) and isinstance(head[key], str | list)}


def counted(videos: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Count videos by licence."""
    return Counter(map(of, videos))


def told(counts: Mapping[str, int]) -> str:
    """Write such counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name}: {count:,}" for name, count in ordered) or UNKNOWN
