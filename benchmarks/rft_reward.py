"""The reward of the benchmark: how many different letters an answer has; no two are often alike."""

from typing import Any


def letters(completions: list[Any], **_: Any) -> list[float]:
    """Score answers: texts in ours, messages in TRL."""
    texts = [said if isinstance(said, str) else said[0]["content"] for said in completions]
    return [len(set(text)) / 10 for text in texts]
