"""The folder of an export: what was written there, and whether it may be replaced."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from spark_trainer.data.files import Broken, canonical_json, file_digest, read_json, sweep
from spark_trainer.data.layout import EXPORT_NOTE
from spark_trainer.errors import UserError

SMALL = 16 << 20  # bytes of a file whose content is compared before it is replaced
NAMED = 3


@dataclass(frozen=True)
class Note:
    """What an export says of itself.

    Attributes:
        identity: of the manifest and the settings.
        files: path below the folder -> SHA-256 of its content; of a large file its size, of a
            video nothing.
        videos: how many each split has.
        left_out: the other videos of the manifest, and why.
        licences: how many videos have each, as far as known.
    """

    identity: str
    files: Mapping[str, str | int | None]
    videos: Mapping[str, int]
    left_out: Sequence[Sequence[str]]
    licences: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """Read the note of a folder; None where it is no export.

        Raises:
            UserError: the note can't be read.
        """
        try:
            note = cls(**read_json(folder / EXPORT_NOTE, dict))
            note._check()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (Broken, TypeError):
            raise UserError(f"{folder / EXPORT_NOTE} is damaged; remove {folder}") from None
        return note

    def _check(self) -> None:
        """Look whether all has the types that are written.

        Raises:
            TypeError: it has not.
        """
        if not all(isinstance(one, dict) for one in (self.files, self.videos, self.licences)):
            raise TypeError
        if not all(
            isinstance(one, int) for one in (*self.videos.values(), *self.licences.values())
        ):
            raise TypeError

    @classmethod
    def of(cls, folder: Path, **said: Any) -> Self:
        """Take down what was written into a folder, beside what else is said of it."""
        return cls(files={name: _content(folder / name) for name in _files(folder)}, **said)

    def write(self, folder: Path) -> None:
        """Write it into a folder."""
        (folder / EXPORT_NOTE).write_text(canonical_json(asdict(self)) + "\n", encoding="utf-8")

    def whole(self, folder: Path) -> bool:
        """Tell whether all that was written is there, and leads to something."""
        return all((folder / name).exists() for name in self.files)

    def changed(self, folder: Path) -> list[str]:
        """List what is not there as it was written, and links whose video changed since."""
        made = (folder / EXPORT_NOTE).stat().st_mtime_ns
        return [
            name
            for name, content in self.files.items()
            if not (folder / name).exists()
            or _edited(folder / name, content)
            or (content is None and _changed(folder / name) > made)
        ]


def check(folder: Path) -> None:
    """Look whether a folder may be replaced: nobody else wrote into it, nor edited what is there.

    Raises:
        UserError: it may not; the message names what would be lost.
    """
    sweep(folder.parent)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is there already, and is no folder; expected another name")
    if not folder.exists() or not any(folder.iterdir()):
        return
    note = Note.find(folder)
    if note is None:
        raise UserError(f"{folder} is there already, and is no export; expected another folder")
    others = sorted({*_files(folder)} - note.files.keys())
    if others:
        raise UserError(
            f"{folder} holds {len(others)} files that no export wrote: {_some(others)}. They may "
            "be what a trainer made of the data as they were: move them away or remove them"
        )
    edited = [name for name in note.files if _edited(folder / name, note.files[name])]
    if edited:
        raise UserError(
            f"{folder} would lose what was edited: {_some(edited)}; move it away or remove it"
        )


def _edited(path: Path, content: str | int | None) -> bool:
    return content is not None and path.exists() and _content(path) != content


def _changed(path: Path) -> int:
    """Return when a link or what it leads to changed last, in ns since 1970."""
    return max(path.stat().st_mtime_ns, path.lstat().st_mtime_ns)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _files(folder: Path) -> Iterator[str]:
    """Yield the paths of a folder's files, but for the note."""
    for path in sorted(folder.rglob("*")):
        if (path.is_symlink() or not path.is_dir()) and path != folder / EXPORT_NOTE:
            yield path.relative_to(folder).as_posix()


def _content(path: Path) -> str | int | None:
    if path.is_symlink():
        return None
    size = path.stat().st_size
    return file_digest(path) if size <= SMALL else size
