"""Which videos have labels: a digest of each, as the graph knows it.

The digests stand in the list of a shard's videos, and in the steps' records: an edit of one line of
a table re-does one video. A step is told of the kinds that it reads alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from spark_trainer.config import Config
from spark_trainer.config.labels import GIVEN, Labels
from spark_trainer.config.section import ValueType
from spark_trainer.data.files import digest

DIGITS = 16
# What captioners by a model read: that a caption is given, not which.
CAPTIONED, YES = "captioned", "yes"
KINDS = (*Labels.KINDS, CAPTIONED)


@dataclass(frozen=True)
class Given:
    """The labels of a build's videos.

    Attributes:
        known: kind -> hash of a video -> digest of what is said of it.
        keys: of the facts for `meta`, with their types.
        name: what names this state; empty where nothing is given.
    """

    known: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    keys: Mapping[str, ValueType] = field(default_factory=dict)
    name: str = ""

    @classmethod
    def of_all(cls, known: Mapping[str, Mapping[str, str]], keys: Mapping[str, ValueType]) -> Self:
        """Name a state."""
        if not any(known.values()):
            return cls()
        return cls(known, keys, digest({"known": known, "keys": keys})[:DIGITS])

    def __bool__(self) -> bool:
        return bool(self.name)

    def spelled(self) -> dict[str, Any]:
        """Return it as it is written."""
        return {"known": self.known, "keys": self.keys}

    def of(self, video: str, kinds: Sequence[str]) -> str:
        """Return what a step that reads these kinds is told of a video; see `parsed`."""
        known = ((kind, self.known[kind].get(video)) for kind in kinds if kind in self.known)
        return ",".join([f"{kind}={named}" for kind, named in known if named])


def parsed(told: str) -> dict[str, str]:
    """Return kind -> digest, of what a step is told of a video."""
    return dict(one.split("=") for one in told.split(",")) if told else {}


def marked(known: Mapping[str, Mapping[str, str]], config: Config) -> dict[str, Any]:
    """Return what is known, and which videos models need not caption."""
    chosen = config.caption
    if chosen.also_labelled or set(chosen.names) == {GIVEN}:
        return dict(known)
    return {**known, CAPTIONED: dict.fromkeys(known.get("captions", {}), YES)}


def changed(before: str, now: str) -> str:
    """Say in a word what became of a video's labels: added, changed or removed."""
    old, new = parsed(before), parsed(now)
    if not old.keys() & new.keys():
        return "added" if new else "removed"
    return "changed"
