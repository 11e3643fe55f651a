"""Gathering the labels of videos from wherever they are configured, and naming what doesn't fit."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from spark_trainer.config import Config, ConfigError
from spark_trainer.config.labels import BESIDE, HUB
from spark_trainer.data import search as searching
from spark_trainer.data.jsonl import shown
from spark_trainer.data.labels import contents, rows
from spark_trainer.data.labels.matching import Named, stem
from spark_trainer.data.sample import Unusable
from spark_trainer.data.search import SHOWN, Found, Search
from spark_trainer.errors import ABSENT

READERS = 16  # threads that wait for small files


class Label(NamedTuple):
    """What is said of a video, and where that stands: file, and line where there is one."""

    content: Any
    place: str


@dataclass
class Gathered:
    """The labels of one kind.

    Attributes:
        found: hash -> what is said of the video.
        strays: places that name no video here.
        wrong: places that can't be used, and why.
        twice: places that say something else of a video than an earlier one, which stands.
        unread: whether a file could not be read, which another try may mend.
    """

    found: dict[str, Label] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    unread: bool = False

    def remarks(self, kind: str, videos: Mapping[str, list[str]]) -> Iterator[str]:
        """Yield lines that count and name what is not used, and the videos that have none."""
        yield from _line(f"labels.{kind}: of no video here", self.strays)
        yield from _line(f"labels.{kind}: can't be used", self.wrong)
        yield from _line(f"labels.{kind}: said twice, the first stands", self.twice)
        without = [names[0] for video, names in videos.items() if video not in self.found]
        yield from _line(f"labels.{kind}: videos without", sorted(without))


def _line(what: str, named: list[str]) -> Iterator[str]:
    if named:
        named = [one if one.isprintable() else ascii(one) for one in named]
        more = f" and {len(named) - SHOWN:,} more" if len(named) > SHOWN else ""
        yield f"{what}: {len(named):,} ({'; '.join(named[:SHOWN])}{more})"


@dataclass(frozen=True)
class Videos:
    """The videos of a build, as labels may call them.

    Attributes:
        config: the configuration.
        search: the files that were found.
        hashes: path of a file -> hash of its content.
    """

    config: Config
    search: Search
    hashes: Mapping[str, str]

    def files(self, kind: str) -> dict[str, list[Found]]:
        """Return place -> its files that hold labels of a kind; those of the hub are not here.

        Raises:
            ConfigError: a place is not there, or holds none.
        """
        return {place: self._files(kind, place) for place in self.config.labels.places(kind)}

    def _files(self, kind: str, place: str) -> list[Found]:
        if place.startswith(HUB):
            return []
        if place == BESIDE:
            return [file for file in self.search.beside if contents.is_of(kind, file.name)]
        key, path = f"labels.{kind}", Path(place)
        try:
            status = path.stat()
        except (*ABSENT, PermissionError) as error:
            raise ConfigError(f"{key}: {place}: {error.strerror}") from None
        if not path.is_dir():
            absolute = str(path.absolute())
            return [Found(place, path.name, absolute, status.st_size, status.st_mtime_ns)]
        endings = contents.FILES[kind].endings if kind in contents.FILES else ()
        listed = searching.files(path, (*endings, *rows.COLUMNAR), key)
        columnar = [file for file in listed if is_columnar(file)]
        found = columnar or [file for file in listed if contents.is_of(kind, file.name)]
        if not found:
            expected = ", ".join((*endings, *rows.COLUMNAR))
            raise ConfigError(f"{key}: {place}: expected files of {expected} there")
        return found

    def gather(self, kind: str) -> Gathered:
        """Gather the labels of one kind.

        Raises:
            ConfigError: a place is not there, or is none of labels.
            Broken: a table can't be read; the message names file and line.
        """
        gathered, videos = Gathered(), self.search.files
        names = Named((pair for file in videos for pair in self._names(file)), whole=True)
        for place, files in self.files(kind).items():
            if place == BESIDE:
                self._take_files(kind, files, _Beside(videos, self.hashes), gathered)
            elif Path(place).is_dir() and not is_columnar(files[0]):
                self._take_files(kind, files, names, gathered)
            else:
                for table in [file.path for file in files] or [place]:
                    self._take_rows(kind, table, names, gathered)
        return gathered

    def _names(self, file: Found) -> Iterator[tuple[str, str]]:
        yield self.hashes[file.path], file.name
        yield self.hashes[file.path], file.absolute

    def _take_files(
        self, kind: str, listed: Iterable[Found], names: "Named | _Beside", gathered: Gathered
    ) -> None:
        """Read the files that are of a video."""
        matched: list[tuple[str, Found]] = []
        for file in listed:
            where = file.absolute if isinstance(names, _Beside) else file.name
            try:
                found = (names.find(called) for called in contents.named(kind, where))
                video = next(filter(None, found), None)
            except Unusable as error:
                gathered.wrong.append(f"{file.path}: {error}")
                continue
            if video is None:
                gathered.strays.append(file.path)
            elif file.size > contents.MOST:
                said = f"{file.size:,} bytes; expected at most {contents.MOST:,}"
                gathered.wrong.append(f"{file.path}: {said}")
            else:
                matched.append((video, file))
        with ThreadPoolExecutor(READERS) as pool:
            read = pool.map(_content, (file for _, file in matched))
            for (video, file), content in zip(matched, read, strict=True):
                try:
                    if isinstance(content, OSError):
                        gathered.unread = True
                        raise Unusable(content.strerror or str(content))
                    said = contents.of_file(kind, content, file.name, self.config.labels)
                except Unusable as error:
                    gathered.wrong.append(f"{file.path}: {error}")
                else:
                    _take(kind, video, Label(said, file.path), gathered)

    def _take_rows(self, kind: str, place: str, names: Named, gathered: Gathered) -> None:
        """Read the rows of a table that are about a video."""
        key, chosen, looked = f"labels.{kind}", self.config.labels, False
        count = 0
        try:
            for row in rows.rows(place, key):
                count += 1
                where = row.place.removeprefix(f"{key}: ")
                try:
                    if isinstance(row.values, ValueError):
                        raise Unusable(str(row.values))
                    if not looked and (lacks := contents.lacking(kind, row.values, chosen)):
                        line = f"{key}: {place}:1" if rows.has_names(place) else row.place
                        raise ConfigError(f"{line}: {lacks}")
                    looked = True
                    said = contents.of_row(kind, row.values, chosen)
                    video = None if said is None else names.find(said.name)
                except Unusable as error:
                    gathered.wrong.append(f"{where}: {error}")
                    continue
                if said is not None and video is None:
                    gathered.strays.append(f"{where}: {shown(said.name)}")
                elif said is not None and video is not None:
                    _take(kind, video, Label(said.content, where), gathered)
        except (*ABSENT, PermissionError) as error:
            raise ConfigError(f"{key}: {error.filename or place}: {error.strerror}") from None
        if not count:
            raise ConfigError(f"{key}: {place}: expected rows (it has none)")


class _Beside:
    """Videos, found by the path of a file that lies beside them."""

    def __init__(self, files: Iterable[Found], hashes: Mapping[str, str]) -> None:
        self._by_path: dict[str, dict[str, str]] = {}
        for file in files:
            folder, _, name = file.absolute.rpartition("/")
            for called in (name, stem(name)):
                found = self._by_path.setdefault(f"{folder}/{called}", {})
                found[hashes[file.path]] = file.name

    def find(self, wanted: str) -> str | None:
        """Return the hash of the video; see `Named.find`."""
        found = self._by_path.get(wanted, {})
        if len(found) > 1:
            raise Unusable(f"it lies beside {', '.join(sorted(found.values()))}; {ONE_OF}")
        return next(iter(found), None)


ONE_OF = "expected a name that keeps the video's ending, such as dog.mp4.txt"


def is_columnar(file: Found) -> bool:
    """Tell whether a file is one of a data set, as Hugging Face's library saves it."""
    name = file.name.rpartition("/")[2]
    return name.lower().endswith(rows.COLUMNAR) and not name.startswith("cache-")


def _content(file: Found) -> bytes | OSError:
    try:
        return Path(file.path).read_bytes()
    except OSError as error:
        return error


def _take(kind: str, video: str, label: Label, gathered: Gathered) -> None:
    """Take what is said of a video; questions, and cues with times, join those before."""
    before = gathered.found.setdefault(video, label)
    if before is label:
        return
    if kind == "questions":
        gathered.found[video] = Label(before.content + label.content, before.place)
    elif kind == "transcripts" and _timed(before) and _timed(label):
        cues = {"cues": before.content["cues"] + label.content["cues"]}
        gathered.found[video] = Label(cues, before.place)
    elif before.content != label.content:
        gathered.twice.append(f"{label.place} after {before.place}")


def _timed(label: Label) -> bool:
    cues = label.content.get("cues") or [{"start": None}]
    return all(cue["start"] is not None for cue in cues)
