"""The videos of an export: which, in which split, what is said of each, what it is called."""

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spark_trainer.config import Export
from spark_trainer.data import manifest, meta, names, texts
from spark_trainer.data.dataset import SPLIT_NAMES, SplitName, of_entry
from spark_trainer.data.layout import Layout
from spark_trainer.data.sample import Unusable
from spark_trainer.data.sources import unchanged
from spark_trainer.errors import MachineError
from spark_trainer.exports.base import Format

ENDING = re.compile(r"\.[A-Za-z0-9]{1,8}")
UNSAFE = re.compile(r"[^\w-]+")  # dots as well: WebDataset takes what follows the first for a type
LONGEST = 50  # characters of a name, of up to four bytes, before a part of the hash
NUMBERS = ("duration", "fps", "width", "height")  # keys of `meta`
PROMPT = "Describe the video in one or two sentences."
Texts = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Clip:
    """A video as it is exported.

    Attributes:
        id: the hash of its content.
        split: where it belongs.
        meta: what the manifest says of it.
        texts: prompt and answer of each of its samples; none where the format takes it without.
        name: what it is called there, without ending.
        source: its file.
    """

    id: str
    split: SplitName
    meta: Mapping[str, Any]
    texts: Texts
    name: str
    source: Path

    @property
    def text(self) -> str:
        """Return what is said of it, where that is one text; empty where nothing is."""
        return self.texts[0][1] if self.texts else ""

    @property
    def file(self) -> str:
        """Return its file's name there."""
        return f"{self.name}{ending(self.source)}"


@dataclass
class Chosen:
    """Which lines of a manifest are exported; memory grows by some bytes for each video.

    Attributes:
        offsets: split -> the byte at which each of its lines starts, in order of the manifest.
        left_out: the other videos, and why.
        numbers: keys of `meta` that are known of every video.
        names: hash -> name, where videos are called after their files.
    """

    offsets: dict[SplitName, "array[int]"] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    numbers: tuple[str, ...] = ()
    endings: Counter[str] = field(default_factory=Counter)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Count the videos."""
        return sum(map(len, self.offsets.values()))


@dataclass(frozen=True)
class Clips:
    """The videos of one export of a manifest."""

    settings: Export
    form: Format
    layout: Layout

    def choose(self) -> Chosen:
        """Read the manifest once, and look at each video's file.

        Raises:
            MachineError: a file changed since the manifest was made of it.
        """
        offsets: dict[SplitName, array[int]] = {name: array("q") for name in SPLIT_NAMES}
        known = dict.fromkeys(NUMBERS, True)
        chosen, stems = Chosen(), dict[str, str]()
        for line in manifest.lines(self.layout.manifest):
            split = of_entry(line.entry, self.settings.split)
            try:
                clip = self.clip(line.entry, split, {})
                self._check(clip)
            except Unusable as reason:
                chosen.left_out.append((called(line.entry), str(reason)))
                continue
            offsets[split].append(line.offset)
            chosen.endings[ending(clip.source)] += 1
            for key in [key for key in known if clip.meta.get(key) is None]:
                del known[key]
            if self.settings.names == "source":
                stems[clip.id] = _safe(clip.meta.get("source_path") or clip.id)
        chosen.offsets = {name: found for name, found in offsets.items() if found}
        chosen.numbers, chosen.names = tuple(known), names.folders(stems)
        return chosen

    def clip(self, entry: dict[str, Any], split: SplitName, called: Mapping[str, str]) -> Clip:
        """Return a line of the manifest as it is exported.

        Raises:
            Unusable: it lacks what the format or the settings ask for.
        """
        identity = entry["id"]
        source = self.layout.located(identity)
        said = [(prompt or PROMPT, answer) for prompt, answer in self._said(entry)]
        name = called.get(identity, identity)
        return Clip(identity, split, entry["meta"], said, name, source)

    def _said(self, entry: dict[str, Any]) -> Iterator[tuple[str | None, str]]:
        asked = "text" in self.settings.model_fields_set
        return texts.said(entry, self.settings.text) if self.form.texts or asked else iter(())

    def _check(self, clip: Clip) -> None:
        """Look whether a video can be exported.

        Raises:
            Unusable: it can't.
            MachineError: its file changed.
        """
        if self.form.spoken:
            segments = clip.meta.get("segments")
            if not segments and not clip.meta.get("transcript"):
                raise Unusable("without transcript")
            if not segments or any(
                one.get("start") is None or one.get("end") is None for one in segments
            ):
                raise Unusable("its transcript has no times")
        said = [text for pair in clip.texts for text in pair]
        if held := [tag for tag in self.form.tags if any(tag in text for text in said)]:
            raise Unusable(f"its text holds {held[0]}, which the tool takes for a medium")
        if self.form.endings is not None and ending(clip.source) not in self.form.endings:
            found = ending(clip.source) or "no ending"
            raise Unusable(f"the tool looks for other endings of files (its own: {found})")
        if self.settings.media == "none":
            if self.form.paths and meta.HALVES.search(str(clip.source)):
                raise Unusable("the path of its file is no UTF-8, and can't be written")
            return
        try:
            status = clip.source.stat()
        except OSError as error:
            raise MachineError(
                f"{clip.source}: {error.strerror}; build the manifest anew"
            ) from None
        if not unchanged(self.layout, clip.id, status):
            raise MachineError(f"{clip.source} changed; build the manifest anew")


def ending(source: Path) -> str:
    """Return the ending of a video's file in small letters, where it is a plain one."""
    return source.suffix.lower() if ENDING.fullmatch(source.suffix) else ""


def called(entry: Mapping[str, Any]) -> str:
    """Return what people call a video: its path below the folder of videos."""
    return str(entry["meta"].get("source_path") or entry["id"])


def _safe(path: str) -> str:
    """Return the name of a file, of letters, digits, `_` and `-`."""
    return UNSAFE.sub("_", Path(path).stem)[:LONGEST].strip("_") or "video"
