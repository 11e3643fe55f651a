"""The reward of the benchmark: a number that depends on the text, as good as never the same."""

import zlib
from typing import Any


def checksum(completions: list[Any], **_: Any) -> list[float]:
    """Score answers: texts in ours, messages in TRL."""
    texts = [said if isinstance(said, str) else said[0]["content"] for said in completions]
    return [zlib.crc32(text.encode()) / 2**32 for text in texts]
