"""Searching the configured folders for videos, and noting what else is there.

Files of this project are known by what their folder holds, never by its name alone: a store or a
run folder of another configuration is no source of videos either.
"""

import contextlib
import itertools
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from spark_trainer.config import Config, ConfigError
from spark_trainer.data.files import Broken, read_json
from spark_trainer.data.labels import contents
from spark_trainer.data.layout import EXPORT_NOTE, OURS, RUN_CONFIG, RUN_FILE, RUN_LINEAGE, Layout

SHOWN = 10  # items of one kind in a message
OF_A_STORE = re.compile(r"/([0-9a-f]{2})/\1[0-9a-f]{62}$")
RECORDS = frozenset({"frames.json", "audio.json"})  # one of them is always switched on


class Found(NamedTuple):
    """One video file. `name` is its path relative to the searched folder."""

    path: str
    name: str
    absolute: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Trouble:
    """A file or folder that is left out this time, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path!r}: {self.reason}"


@dataclass
class Search:
    """What was found in the configured folders."""

    files: list[Found] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)  # of files that are no videos
    hidden: int = 0
    ours: Counter[str] = field(default_factory=Counter)  # folder -> this project's folders in it
    empty: list[str] = field(default_factory=list)  # configured folders without any video
    forgotten: dict[Found, str] = field(default_factory=dict)  # what is not to be seen again: why
    strays: list[str] = field(default_factory=list)  # hashes of corrections without a video here
    beside: list[Found] = field(default_factory=list)  # files beside videos that say of them
    remarks: list[str] = field(default_factory=list)  # what labels lack

    def notes(self) -> list[str]:
        """Return lines that say what was left out, one or more for each kind."""
        lines = []
        if self.endings:
            lines.append(f"left out by ending: {counts(self.endings)}; index.extensions takes more")
        if self.hidden:
            lines.append(f"left out as hidden: {self.hidden:,} with the ending of a video")
        if self.ours:
            places = counts(self.ours, "in ")
            lines.append(f"left out as written by SparkTrainer, folders: {places}")
        lines += [f"no video in {folder}" for folder in self.empty]
        gone = [Trouble(file.path, why) for file, why in self.forgotten.items()]
        lines += _first("left out", gone)
        lines += _first("left out this time", self.troubles)
        lines = [f"video_dir: {line}" for line in lines]
        if self.strays:
            named = ", ".join(one[:12] for one in self.strays[:SHOWN])
            lines.append(f"corrections of no video here: {len(self.strays):,} ({named})")
        return [*lines, *self.remarks]


def _first(words: str, troubles: list[Trouble]) -> list[str]:
    """Return lines that name the first files of a kind, and count the others."""
    lines = [f"{words}: {trouble}" for trouble in troubles[:SHOWN]]
    more = len(troubles) - SHOWN
    return [*lines, f"{words}: {more:,} more"] if more > 0 else lines


def counts(kinds: Counter[str], word: str = "") -> str:
    """Return how many there are of each kind, the most frequent first, shortened to one line."""
    ranked = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {word}{kind}" for kind, count in ranked[:SHOWN]]
    others = sum(count for _, count in ranked[SHOWN:])
    return ", ".join([*shown, *([f"{others:,} others"] if others else [])])


def find(config: Config) -> Search:
    """Look at every file below the configured folders; a file that is configured is a video.

    Raises:
        ConfigError: a folder doesn't exist, or can't be listed.
    """
    search, endings = Search(), contents.endings(config.labelled)
    for folder in config.video_dirs:
        before = len(search.files)
        try:
            status = os.stat(folder)
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"video_dir: no such folder: {folder}") from None
        except OSError as error:
            raise ConfigError(f"video_dir: can't read {folder}: {error.strerror}") from None
        if stat.S_ISREG(status.st_mode):
            search.files.append(_found(str(folder), folder.name, os.path.abspath(folder), status))
            _look_beside(folder, endings, search)
        elif stat.S_ISDIR(status.st_mode):
            _Walk(folder, config.index.extensions, search, endings).run()
        else:
            raise ConfigError(f"video_dir: expected a folder or a file: {folder}")
        if len(search.files) == before:
            search.empty.append(str(folder))
    search.files.sort(key=lambda file: (file.name, file.path))
    return search


def files(folder: Path, endings: tuple[str, ...], key: str) -> list[Found]:
    """Find the files with these endings below a folder, in the order of their names.

    Args:
        folder: the folder.
        endings: in lower case.
        key: the setting that names it.

    Raises:
        ConfigError: it can't be listed.
    """
    search = Search()
    _Walk(folder, (), search, endings, key).run()
    return sorted(search.beside, key=lambda file: file.name)


def _look_beside(file: Path, endings: tuple[str, ...], search: Search) -> None:
    """Note the files beside a single video that is configured, by their names alone."""
    for before, ending in itertools.product((file.stem, file.name), endings):
        path = file.with_name(f"{before}{ending}")
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path)
            search.beside.append(_found(str(path), path.name, os.path.abspath(path), status))


def _found(path: str, name: str, absolute: str, status: os.stat_result) -> Found:
    return Found(path, name, absolute, status.st_size, status.st_mtime_ns)


class _Walk:
    """A walk through one configured folder and all folders below it."""

    def __init__(
        self,
        folder: Path,
        extensions: tuple[str, ...],
        search: Search,
        beside: tuple[str, ...],
        key: str = "video_dir",
    ) -> None:
        self._folder = folder
        self._beside = beside
        self._key = key
        self._root = os.path.join(os.path.abspath(folder), "")
        self._extensions = extensions
        self._search = search
        self._pending = [(str(folder), "", "")]  # path, prefix of names below it, store around it
        self._seen = {os.path.realpath(folder)}

    def run(self) -> None:
        """Add what lies below the folder to the search."""
        while self._pending:
            path, prefix, store = self._pending.pop()
            try:
                with os.scandir(path) as listing:
                    entries = list(listing)
            except OSError as error:
                if not prefix:
                    message = f"{self._key}: can't read {self._folder}: {error.strerror}"
                    raise ConfigError(message) from None
                self._trouble(path, error)
                continue
            names = {entry.name for entry in entries}
            if written_here(path, names, in_store=bool(store)):
                self._search.ours[store or os.path.dirname(path)] += 1
                continue
            within = path if Layout(Path(path)).state.name in names else store
            for entry in entries:
                self._look(entry, prefix, within)

    def _look(self, entry: os.DirEntry[str], prefix: str, store: str) -> None:
        """Note an entry as a video, queue it as a folder, or count it as left out."""
        name, video = entry.name, entry.name.lower().endswith(self._extensions)
        if name.startswith("."):
            self._search.hidden += video
            return
        try:
            if entry.is_dir():
                self._go_into(entry, f"{prefix}{name}/", store)
                return
            status = entry.stat()
        except OSError as error:
            self._trouble(entry.path, error)
            return
        if video and not stat.S_ISREG(status.st_mode):
            self._search.troubles.append(Trouble(entry.path, "it is not a regular file"))
        elif video:
            absolute = self._root + prefix + name
            self._search.files.append(_found(entry.path, prefix + name, absolute, status))
        elif self._beside and name.lower().endswith(self._beside):
            self._search.beside.append(
                _found(entry.path, prefix + name, self._root + prefix + name, status)
            )
        elif not (store and name in OURS):
            self._search.endings[_ending(name)] += 1

    def _go_into(self, entry: os.DirEntry[str], prefix: str, store: str) -> None:
        real = os.path.realpath(entry.path)
        if real in self._seen:
            return
        self._seen.add(real)
        in_store = os.path.dirname(entry.path) == store and entry.name in OURS
        if in_store or OF_A_STORE.search(real):
            self._search.ours[store or os.path.dirname(entry.path)] += 1
        else:
            self._pending.append((entry.path, prefix, store))

    def _trouble(self, path: str, error: OSError) -> None:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and os.path.islink(path):
            reason = f"it links to {os.readlink(path)!r}, which is not there"
        self._search.troubles.append(Trouble(path, reason))


def _ending(name: str) -> str:
    """Return a file's ending as it is counted and shown."""
    ending = os.path.splitext(name)[1].lower() or "without an ending"
    return ending if ending.isprintable() else ascii(ending)


def written_here(path: str, names: set[str], in_store: bool = False) -> bool:
    """Tell whether this project wrote a folder: a log, a run, an export, or a video's results.

    Args:
        path: the folder.
        names: the names of what it holds.
        in_store: the folder lies in a store, where even a broken record tells.
    """
    if names & {"spark_trainer.log", EXPORT_NOTE}:
        return True
    if RUN_CONFIG in names and names & {RUN_FILE, RUN_LINEAGE}:
        return True
    if {"keypoints.npz", "pose.mp4"} <= names:
        return True
    return any(_is_record(os.path.join(path, name), in_store) for name in names & RECORDS)


def _is_record(path: str, or_broken: bool) -> bool:
    try:
        record = read_json(Path(path), dict)
    except (OSError, Broken):
        return or_broken
    return set(record) >= {"step", "video", "fingerprint"}
