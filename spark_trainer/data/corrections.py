"""What people corrected by hand: a small file for each video, which is theirs.

It lies as `<sha256>.json` in the folder of `corrections_dir`, and holds what is true of the video
now, with who said so and when. No build writes there; `corrected.py` has what builds make of it.
"""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from spark_trainer.config.reading import validated
from spark_trainer.config.section import ConfigError, Section
from spark_trainer.data import jsonl
from spark_trainer.data.files import sweep, write_json
from spark_trainer.data.layout import Layout
from spark_trainer.errors import LONGEST_REASON, UserError

HAND = "hand"  # who made what a person wrote, where else a model or a step is named
MOST_BYTES = 1 << 23  # of a file: the words of a day are a tenth of it
HASH = re.compile("[0-9a-f]{64}")
NAME = re.compile(rf"{HASH.pattern}\.json")
NO_TEXT = re.compile("[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # halves of characters among them


def _text(most: int, least: int = 1) -> AfterValidator:
    """Make the check of a text of so many characters, which strips it."""

    def check(text: str) -> str:
        text = text.strip()
        if sign := NO_TEXT.search(text):
            code = f"{ord(sign[0]):04X}"
            raise PydanticCustomError("text", "text without U+{code}", {"code": code})
        if len(text) < least:
            raise PydanticCustomError("text", "text that is not empty")
        if len(text) > most:
            many = {"most": f"{most:,}"}
            raise PydanticCustomError("text", "text of at most {most} characters", many)
        return text

    return AfterValidator(check)


def _is_time(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise PydanticCustomError("time", "a time such as 2026-11-27T09:30:00+00:00") from None
    return text


Line = Annotated[str, _text(most=1000)]
Words = Annotated[str, _text(most=100_000)]
Speech = Annotated[str, _text(most=2_000_000, least=0)]
Seconds = Annotated[float, Field(ge=0)]


class Signed(Section):
    """Who said something, and when (ISO 8601)."""

    author: Line
    time: Annotated[str, AfterValidator(_is_time)]


class Caption(Signed):
    """A caption."""

    text: Words


class Remark(Signed):
    """A remark about a video, or the reason why it is left out."""

    text: Line


class Segment(Section):
    """A stretch of speech; times are seconds from the start of the video's sound."""

    start: Seconds
    end: Seconds
    text: Words

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.end <= self.start:
            raise ConfigError(f"end: expected more than start, {self.start:g} (got {self.end:g})")
        return self


class Spoken(Signed):
    """What is said in a video, as a whole and in segments where times are known; may be nothing."""

    text: Speech
    segments: tuple[Segment, ...] = ()


def _is_hash(text: str) -> str:
    if not HASH.fullmatch(text):
        raise PydanticCustomError("hash", "a SHA-256 of 64 hexadecimal digits, in small letters")
    return text


class Correction(Section):
    """All that was said by hand of a video, and is not taken back."""

    video: Annotated[str, AfterValidator(_is_hash)]
    caption: Caption | None = None
    transcript: Spoken | None = None
    flag: Remark | None = None
    exclude: Remark | None = None

    @property
    def said(self) -> dict[str, Signed]:
        """Return kind -> what was said."""
        every = {kind: getattr(self, kind) for kind in KINDS}
        return {kind: one for kind, one in every.items() if one is not None}

    def told(self) -> dict[str, dict[str, Any]]:
        """Return kind -> what was said, by whom and when, as JSON."""
        return {kind: one.model_dump(mode="json") for kind, one in self.said.items()}

    def only(self, kinds: Sequence[str]) -> Self:
        """Return what of these kinds was said."""
        return self.model_copy(update=dict.fromkeys(kind for kind in KINDS if kind not in kinds))

    def spelled(self) -> dict[str, Any]:
        """Return it as it is written."""
        return self.model_dump(mode="json", exclude_none=True)


KINDS = ("caption", "transcript", "flag", "exclude")
SPOKEN = "transcript"  # the kind that may have times


class Unreadable(UserError, ValueError):
    """A file of corrections that holds none; the message names it."""


def read(path: Path) -> Correction:
    """Read a correction as a person may have left it.

    Raises:
        Unreadable: it is none, or that of another video than its name says.
        FileNotFoundError: there is none.
        OSError: the machine can't read it.
    """
    try:
        return parsed(path, _content(path))
    except ValueError as error:
        raise Unreadable(f"{path}: {str(error)[:LONGEST_REASON]}") from None


def _content(path: Path) -> bytes:
    if path.is_symlink():
        raise ValueError("expected a file of its own, not a link")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("expected a regular file")
        if status.st_size > MOST_BYTES:
            raise ValueError(f"{status.st_size:,} bytes; expected at most {MOST_BYTES:,}")
        return file.read(MOST_BYTES)


def parsed(path: Path, content: bytes) -> Correction:
    """Return what a file holds that is named after a video.

    Raises:
        ValueError: it holds no correction of this video.
    """
    found = validated(Correction, jsonl.parsed(content.removeprefix(jsonl.UTF8)))
    if found.video != path.name[:64]:
        raise ValueError(f"it is of {found.video}; expected the video of its name")
    return found


def every(folder: Path) -> dict[str, Correction]:
    """Read all that was corrected: hash -> what was said of the video.

    Other files may lie there too, such as a README or what a version control keeps.

    Raises:
        Unreadable: one of them is damaged, or is JSON and has no hash for a name.
        OSError: the machine can't read one.
    """
    found = {}
    for path in listed(folder):
        if not NAME.fullmatch(path.name):
            raise Unreadable(f"{path}: expected the hash of a video as its name")
        with contextlib.suppress(FileNotFoundError):  # taken back since it was listed
            found[path.stem] = read(path)
    return found


def listed(folder: Path) -> list[Path]:
    """List the files that are, or pretend to be, corrections."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        if folder.exists():
            raise Unreadable(f"{folder}: expected a folder of corrections") from None
        return []
    visible = (name for name in names if not name.startswith("."))
    return [folder / name for name in sorted(visible) if name.endswith(".json")]


def path_of(folder: Path, video: str) -> Path:
    """Name the file of what was corrected of a video."""
    return folder / f"{video}.json"


def find(folder: Path, video: str) -> Correction:
    """Read what was corrected of a video; an empty correction where nothing was.

    Raises:
        Unreadable, OSError: as `read`.
    """
    try:
        return read(path_of(folder, video))
    except FileNotFoundError:
        return Correction(video=video)


def edit(folder: Path, layout: Layout, video: str, said: Mapping[str, Any], by: str) -> Correction:
    """Write what a person says of a video; what is not spoken of stays.

    Two who edit one video at once wait for each other.

    Args:
        folder: of the corrections.
        layout: the store.
        video: its hash.
        said: kind -> text, None to take it back; of a transcript also text and segments.
        by: the author.

    Raises:
        ConfigError: something can't be said so; the message names the kind.
        Unreadable: what was corrected before is damaged.
        OSError: it can't be written.
    """
    if unknown := [kind for kind in said if kind not in KINDS]:
        expected = ", ".join(KINDS)
        raise ConfigError(f"{unknown[0]}: unknown; expected some of: {expected}")
    signed = {"author": by, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    made = {
        kind: None if one is None else (one if isinstance(one, dict) else {"text": one}) | signed
        for kind, one in said.items()
    }
    with _alone(layout.state / "corrections.lock"):
        sweep(folder)  # what a call that was killed left
        before = find(folder, video)
        after = _checked(before.spelled() | made)
        path = path_of(folder, video)
        if after.said:
            write_json(path, after.spelled())
        else:
            path.unlink(missing_ok=True)
    return after


def _checked(said: dict[str, Any]) -> Correction:
    try:
        return validated(Correction, said)
    except ConfigError as error:
        raise ConfigError(str(error)[:LONGEST_REASON]) from None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep out who else edits, where the file system can lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
