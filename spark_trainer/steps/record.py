"""What a step says of one video: what became of it, why, and the facts that each step declares.

On disk a record is one JSON object. Beside the step's own facts it holds

    status         see `Status`
    why            of status `none`: why there is nothing
    reason         why the video is `rejected`, or why it `failed`; else what the log warns of
    step, version, fingerprint, video    what made it, and of what
    correction     digest of what was corrected by hand, where the step read any
    labels         kinds and digests of what the user's files say, where the step read any
    content        digest of the files that it promises
    checksum       digest of all the above and of the facts
"""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from spark_trainer.data.files import Broken, digest, read_json, write_json

Facts = dict[str, Any]  # a JSON object

# Metadata of a declared fact: it is written even at its default, where others are left out; it is a
# list of records of the same type.
CHECKSUM = "checksum"
ALWAYS, NESTED = {"always": True}, {"nested": True}


class Status(StrEnum):
    """What became of a video."""

    OK = "ok"  # there is a result
    NONE = "none"  # there is nothing to make of it, which is a result too
    REJECTED = "rejected"  # it can't be used, and the manifest leaves it out
    FAILED = "failed"  # the machine was in trouble; the next call tries again


_LOUD = (Status.REJECTED, Status.FAILED)  # whose reason the log warns of


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every step says; a step's own record adds its facts as fields.

    `reason` tells why there is no result, `warning` what is wrong with one. `unread` says that a
    file of an earlier step can't be decoded, and is not written. `more` holds the facts that no
    field is declared for, such as a backend's own.
    """

    status: Status = Status.OK
    reason: str | None = None
    warning: str | None = None
    unread: bool = False
    step: str = ""
    version: int = 0
    fingerprint: str = ""
    video: str = ""
    correction: str = ""
    labels: str = ""
    content: str | None = None
    more: Facts = field(default_factory=dict)

    @classmethod
    def nothing(cls, reason: str) -> Self:
        """Say that there is nothing to make of a video."""
        return cls(status=Status.NONE, reason=reason)

    @classmethod
    def rejected(cls, reason: str) -> Self:
        """Say that a video can't be used."""
        return cls(status=Status.REJECTED, reason=reason)

    @classmethod
    def failed(cls, reason: str) -> Self:
        """Say that the machine was in trouble."""
        return cls(status=Status.FAILED, reason=reason)

    @property
    def ok(self) -> bool:
        """Tell whether there is a result."""
        return self.status is Status.OK

    @property
    def settled(self) -> bool:
        """Tell whether this is the last word, as all but a failure is."""
        return self.status is not Status.FAILED

    @property
    def complaint(self) -> str | None:
        """Tell what the log warns of."""
        return self.reason if self.status in _LOUD else self.warning

    @classmethod
    def from_json(cls, said: Facts) -> Self:
        """Read a record from its JSON.

        Raises:
            KeyError, TypeError, ValueError: it is no record.
        """
        status = Status(said["status"])
        declared = {one.name: one for one in fields(cls) if one.name not in _SPELLED}
        facts = {name: said[name] for name in declared if name in said}
        for name, value in facts.items():
            if declared[name].metadata.get("nested") and value is not None:
                facts[name] = tuple(cls.from_json(one) for one in value)
        more = {name: said[name] for name in said.keys() - declared.keys() - _ON_DISK}
        loud = status in _LOUD
        return cls(
            status=status,
            reason=said.get("reason" if loud else "why"),
            warning=None if loud else said.get("reason"),
            more=more,
            **facts,
        )

    def to_json(self) -> Facts:
        """Return the record as it is written."""
        said = {
            one.name: _plain(getattr(self, one.name))
            for one in fields(self)
            if one.name not in _SPELLED
            and (one.metadata.get("always") or getattr(self, one.name) != one.default)
        }
        why = {"why": self.reason} if self.status is Status.NONE else {}
        reason = {"reason": self.complaint} if self.complaint is not None else {}
        return self.more | said | {"status": self.status.value} | why | reason

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record.

        Raises:
            Broken: the file holds none.
            OSError: it can't be read; FileNotFoundError where there is none.
        """
        said = read_json(path, dict)
        try:
            return cls.from_json(said)
        except (KeyError, TypeError, ValueError) as error:
            raise Broken(path, f"no record: {error}") from None

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """Read a record; None where there is none, or a broken one."""
        try:
            return cls.read(path)
        except (FileNotFoundError, Broken):
            return None

    def write(self, path: Path) -> None:
        """Write the record; it is on disk once the caller flushes it.

        Raises:
            ValueError: no JSON can hold a fact: NaN, half a character.
        """
        said = self.to_json()
        write_json(path, said | {CHECKSUM: digest(said)}, flushed=False)


def is_sealed(said: Facts) -> bool:
    """Tell whether the JSON of a record is as its checksum says."""
    facts = {key: value for key, value in said.items() if key != CHECKSUM}
    try:
        return bool(said.get(CHECKSUM) == digest(facts))
    except ValueError:  # NaN, which no step writes
        return False


_SPELLED = frozenset({"status", "reason", "warning", "unread", "more"})  # not as the fields are
_ON_DISK = frozenset({"status", "why", "reason", CHECKSUM})


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and value and isinstance(value[0], Record):
        return [one.to_json() for one in value]
    return value
