"""What is said in the videos, as users give it beside a manifest: a CSV file, or subtitles."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, Self

from spark_trainer.data import manifest
from spark_trainer.data.jsonl import Broken
from spark_trainer.data.sample import Unusable
from spark_trainer.errors import ABSENT
from spark_trainer.speech import WINDOW_S
from spark_trainer.speech.cues import Cue
from spark_trainer.speech.folder import Folder
from spark_trainer.speech.segments import Segment
from spark_trainer.speech.table import Table

Entry = Mapping[str, Any]


class Source(Protocol):
    """Where references stand; it numbers the videos that it names."""

    def __len__(self) -> int:
        """Count the videos."""

    def numbers(self, name: str) -> Sequence[int]:
        """Return the numbers of those called so; the first one is meant."""

    def cues(self, number: int) -> list[Cue]:
        """Read what is said in one; raises `Broken` where that is wrong."""

    def name(self, number: int) -> str:
        """Return what one is called."""

    def place(self, number: int) -> str:
        """Return where one stands: setting, file, and line where there is one."""


class References:
    """References of a manifest's videos.

    A video is called by its id, or by a path as `meta.sources` has it, which is relative to the
    folder that was searched, with or without the file's ending.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @classmethod
    def read(cls, path: Path, key: str) -> Self:
        """Look through a CSV file, or list a folder; texts are read when they are asked for.

        Args:
            path: the file or folder.
            key: the setting that names it.

        Raises:
            Broken: it is not there, or what is wrong with the file's lines, each named.
        """
        try:
            return cls(Folder(path, key) if path.is_dir() else Table(path, key))
        except (*ABSENT, PermissionError) as error:
            raise Broken(f"{key}: {error.filename or path}: {error.strerror}") from None

    def match(self, entries: Iterable[Entry], rejected: Iterable[Entry] = ()) -> int:
        """Check that each reference belongs to one video, before anything is learnt.

        Args:
            entries: those of the manifest.
            rejected: those that the manifest leaves out, whose references count for nothing.

        Returns:
            how many of the entries have one.

        Raises:
            Broken: references of videos that are not there, or several of one; each is named.
        """
        taken = array("b", bytes(len(self._source)))
        others: dict[int, int] = {}  # number -> the one that stands for the same video
        wrong: list[str] = []
        matched, shown = 0, ""
        for entry in entries:
            shown = shown or _shown(entry)
            numbers = self._numbers(entry)
            if not numbers:
                continue
            first, *more = numbers
            matched += 1
            others |= dict.fromkeys(more, first)
            if taken[first]:
                name = self._source.name(first)
                wrong.append(
                    f"{self._source.place(first)}: several videos are called {name!r}, such as "
                    f"{_shown(entry)}; expected an id, or the path with its ending"
                )
            taken[first] = True
        for entry in rejected:
            for number in self._numbers(entry):
                taken[number] = True
        wrong += (self._stray(n, others, shown) for n, found in enumerate(taken) if not found)
        if wrong:
            raise Broken("\n".join(manifest.some(wrong)))
        return matched

    def of(self, entry: Entry, duration: float) -> list[Segment] | None:
        """Return what is said in a video, as it stands there; None where there is no reference.

        Whether the times fit each other and the sound is looked at as windows are made of them;
        each segment knows its place.

        Args:
            entry: the video's line of the manifest.
            duration: of its sound, in seconds.

        Raises:
            Unusable: it is wrong, or without times where the sound is longer than a window.
        """
        numbers = self._numbers(entry)
        if not numbers:
            return None
        try:
            cues = self._source.cues(numbers[0])
        except Broken as error:
            raise Unusable(str(error)) from None
        except (*ABSENT, PermissionError) as error:
            place = self._source.place(numbers[0])
            raise Unusable(f"{place}: {error.strerror}") from None
        timed = [
            Segment(cue.start, cue.end, cue.text, cue.language, cue.place)
            for cue in cues
            if cue.start is not None and cue.end is not None
        ]
        return timed or [_whole(cues[0], duration)]

    def _numbers(self, entry: Entry) -> list[int]:
        """Return the numbers that stand for a video; the first one is that which is nearest."""
        names = dict.fromkeys(_names(entry))
        return list(dict.fromkeys(n for name in names for n in self._source.numbers(name)))

    def _stray(self, number: int, others: Mapping[int, int], example: str) -> str:
        """Say what is wrong with a reference that no video takes."""
        place, name = self._source.place(number), self._source.name(number)
        if number in others:
            return f"{place}: its video is that of {self._source.place(others[number])} too"
        return f"{place}: no video of the manifest is called {name!r}; one is called {example}"


def _names(entry: Entry) -> Iterator[str]:
    """Yield what a video may be called, the most exact name first."""
    yield str(entry.get("id"))
    meta = entry.get("meta") or entry  # a rejected video has its paths beside its id
    for source in [meta.get("source_path"), *(meta.get("sources") or ())]:
        if source:
            yield source
            yield str(PurePosixPath(source).with_suffix(""))


def _shown(entry: Entry) -> str:
    return repr(entry["meta"].get("source_path") or entry["id"])


def _whole(cue: Cue, duration: float) -> Segment:
    """Return the text of a whole video, which has to fit into one window."""
    if duration > WINDOW_S:
        raise Unusable(
            f"{cue.place}: expected start and end where the audio is longer than {WINDOW_S:g} s "
            f"(got {duration:.1f} s)"
        )
    return Segment(0.0, duration, cue.text, cue.language, cue.place)
