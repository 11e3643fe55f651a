"""How often a package may take up the windows of a sound before its model counts as stuck.

By themselves openai-whisper and faster-whisper go through a sound window by window, each from where
the text of the one before ended. A model that ends it after 0.02 s would take 1,500 windows for
30 s: hours, of one on a CPU that writes the longest text each time.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from spark_trainer.system import log
from spark_trainer.transcribers import WINDOW_S, Sound

MOST_ROUNDS = 10  # for each 30 s; one or two are usual, and a few for what is left at the end


class Rounds:
    """Counts the rounds of one sound.

    Args:
        sound: the sound.
        tries: how often a window may be decoded in a round.
    """

    def __init__(self, sound: Sound, tries: int = 1) -> None:
        stretches = sound.speech or ((0.0, sound.duration),)
        windows = sum(max(1, math.ceil((end - start) / WINDOW_S)) for start, end in stretches)
        self._left = MOST_ROUNDS * windows * tries
        self._sound = sound

    def over(self) -> bool:
        """Count a round; tell whether the rest of its window is to be passed over."""
        self._left -= 1
        if self._left == -1:
            text = "transcript: the model is stuck in %.1f s of sound; the rest is heard once"
            log.logger.warning(text, self._sound.duration)
        return self._left < 0


@contextmanager
def instead(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let an object of a package call another function in place of a method of its class."""
    setattr(owner, name, function)
    try:
        yield
    finally:
        delattr(owner, name)


def to_the_end(tokens: list[int], begin: int) -> list[int]:
    """Return tokens after which openai-whisper passes on to the next window.

    It does so where the last token alone is a time (whisper/transcribe.py).

    Args:
        tokens: of a window.
        begin: the token of 0.00 s; those above it are times too.
    """
    kept = list(tokens)
    while len(kept) > 1 and min(kept[-2:]) >= begin:
        kept.pop()
    if not kept or kept[-1] < begin:
        return [*kept, begin + round(WINDOW_S / 0.02)] if kept else kept
    return kept if len(kept) > 1 else []
