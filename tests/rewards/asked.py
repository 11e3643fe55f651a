"""Groups of answers, and rewards as a run asks for them."""

from collections.abc import Iterable, Mapping
from typing import Any

from spark_trainer import rewards
from spark_trainer.config import Rft
from spark_trainer.rewards.base import Answered, Given
from spark_trainer.rewards.combined import Rewards, Scored


def group(
    reference: str,
    *answers: str,
    meta: Mapping[str, Any] | None = None,
    lengths: Iterable[int] = (),
    shuffled: Answered | None = None,
) -> Answered:
    """Answers to one question; a token for each word, or as many as `lengths` says."""
    counts = list(lengths) or [len(answer.split()) for answer in answers]
    ids = tuple(tuple(range(count)) for count in counts)
    return Answered("clip", "What is seen?", reference, answers, ids, meta or {}, 100, shuffled)


def asked(*names: str, references: Iterable[str] = (), **settings: Any) -> Rewards:
    """The rewards of a run with these `reward_funcs`."""
    given = Given(Rft(reward_funcs=names, **settings), lambda: references)
    return rewards.of(given)


def scored(name: str, answered: Answered, **settings: Any) -> list[float | None]:
    """What one reward alone gives."""
    found: Scored = asked(name, **settings).scored(answered)
    return list(found.parts[name])
