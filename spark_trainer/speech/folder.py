"""A folder of references: a file for each video, named like it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from spark_trainer.data.jsonl import Broken
from spark_trainer.data.labels.contents import language
from spark_trainer.speech import subtitles
from spark_trainer.speech.cues import Cue


class Folder:
    """Files of subtitles, numbered from 0 on; `talk.srt` and `talk.en.srt` belong to `talk.mp4`.

    Files of other formats are none of ours, and not looked at. As where videos are searched, links
    are followed, and what is hidden is left out.

    Args:
        path: the folder, which is searched with all below it.
        key: the setting that names it.

    Raises:
        Broken: it holds no such file.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._files = sorted(
            file
            for folder, names in _folders(path)
            for file in map(folder.joinpath, names)
            if file.suffix.lower() in subtitles.FORMATS and file.is_file()
        )
        if not self._files:
            expected = ", ".join(subtitles.FORMATS)
            raise Broken(f"{key}: {path}: no references there; expected files of {expected}")
        self._numbers: dict[str, list[int]] = {}
        for of_language in (False, True):  # whole names come first
            for number, file in enumerate(self._files):
                name = self.name(number)
                if of_language:
                    name = name.removesuffix(f".{language(file.name)}")
                if not of_language or language(file.name):
                    self._numbers.setdefault(name, []).append(number)

    def __len__(self) -> int:
        """Count the files."""
        return len(self._files)

    def numbers(self, name: str) -> Sequence[int]:
        """Return the files that are called like a video; several where that is ambiguous."""
        return self._numbers.get(name, [])

    def cues(self, number: int) -> list[Cue]:
        """Read what is said in a video.

        Raises:
            Broken: as `subtitles.read`.
        """
        file = self._files[number]
        cues = subtitles.read(file, self._key)
        code = language(file.name)
        return [replace(cue, language=code) for cue in cues] if code else cues

    def name(self, number: int) -> str:
        """Return a file's name below the folder, without its ending."""
        return self._files[number].relative_to(self._path).with_suffix("").as_posix()

    def place(self, number: int) -> str:
        """Return setting and file."""
        return f"{self._key}: {self._files[number]}"


def linked(path: Path) -> list[Path]:
    """Return the folders below a path that are links; there are none below a file."""
    found = _folders(path) if path.is_dir() else ()
    return [folder for folder, _ in found if folder != path and folder.is_symlink()]


def _folders(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below it, each once, with the names of what is in it.

    Raises:
        OSError: one can't be read.
    """

    def fail(error: OSError) -> NoReturn:
        raise error

    seen = set[str]()
    for folder, below, names in os.walk(path, onerror=fail, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(folder), [name for name in names if not name.startswith(".")]
