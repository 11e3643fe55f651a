"""Which videos have labels: a digest of each, as the graph knows it.

The digests stand in the list of a shard's videos, and in the steps' records: an edit of one line of
a table re-does one video. A step is told of the kinds that it reads alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from spark_trainer.config import Config, Labels
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
    """

    known: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    keys: Mapping[str, ValueType] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.known.values())

    @cached_property
    def name(self) -> str:
        """Return what names this state; empty where nothing is given."""
        return digest(self.spelled())[:DIGITS] if self else ""

    def spelled(self) -> dict[str, Any]:
        """Return it as it is written."""
        return {"known": self.known, "keys": self.keys}

    def of(self, video: str, kinds: Sequence[str]) -> str:
        """Return what a step that reads these kinds is told of a video; see `parsed`."""
        said = ((kind, self.known.get(kind, {}).get(video)) for kind in kinds)
        return ",".join(f"{kind}={named}" for kind, named in said if named)

    def only(self, videos: Mapping[str, object]) -> "Given":
        """Return the labels of these videos."""
        known = {
            kind: {video: named for video, named in found.items() if video in videos}
            for kind, found in self.known.items()
        }
        return Given(known, self.keys)


def parsed(told: str) -> dict[str, str]:
    """Return kind -> digest, of what a step is told of a video."""
    return dict(one.split("=") for one in told.split(",")) if told else {}


def marked(known: Mapping[str, Mapping[str, str]], config: Config) -> dict[str, Any]:
    """Return what is known, and which videos models need not caption."""
    captions = {} if config.caption.also_labelled else known.get("captions", {})
    return {**known, CAPTIONED: dict.fromkeys(captions, YES)}


def changed(before: str, now: str) -> str:
    """Say in a word what became of a video's labels: added, changed or removed."""
    old, new = parsed(before), parsed(now)
    if not old.keys() & new.keys():
        return "added" if new else "removed"
    return "changed"
