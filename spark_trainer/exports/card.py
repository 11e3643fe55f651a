"""The data card: README.md of an export, readable by people and by the hub."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from spark_trainer import __version__
from spark_trainer.data import licences
from spark_trainer.data.licences import UNKNOWN
from spark_trainer.data.manifest import some
from spark_trainer.data.markdown import plain
from spark_trainer.exports.clips import Clip
from spark_trainer.exports.dataset import DataSet
from spark_trainer.exports.rows import unknown

SHOWN = 12  # rows of a table; the others are counted
OF_HUB = {"parquet": "{split}.parquet", "webdataset": "{split}/*.tar", "videofolder": "{split}/**"}
Row = tuple[str, ...]


def write(data: DataSet, manifest: str) -> "Tally":
    """Write README.md: what it is, how it is loaded, whose it is, and what it is made of.

    Args:
        data: the export, whose other files are written.
        manifest: SHA-256 of the manifest that it was made of.

    Returns:
        what was counted.
    """
    tally = Tally()
    for split in data.splits:
        for clip in data.clips(split):
            tally.add(clip)
    settings = data.settings
    made = [
        ("made of (SHA-256 of the manifest)", manifest),
        ("made by", f"SparkTrainer {__version__}, `to: {settings.to}`"),
        ("split", _split(data)),
        ("read by", data.all.form.read_by),
    ]
    parts = [
        f"---\n{yaml.safe_dump(_head(data, tally), allow_unicode=True, sort_keys=False)}---",
        "# A data set of videos",
        _table(("what", "value"), made),
        "## Loading",
        data.all.form.loading(data),
        "## Videos",
        _table(("split", "videos", "hours", "texts", "words"), tally.splits()),
        *_counted("Captions by", tally.captioners),
        *_counted("Transcripts by", tally.transcribers),
        *_counted("Languages that are spoken", tally.languages),
        *_counted("Width × height", tally.sizes),
        *_counted("Licences, as the videos' own facts tell them", tally.licences),
        "A licence that is not known is not a permission.",
        *_left_out(data),
        *_columns(data),
    ]
    data.write("README.md", "\n\n".join(parts) + "\n")
    return tally


class Tally:
    """Counts over the videos of an export."""

    def __init__(self) -> None:
        self._videos, self._texts, self._words = Counter[str](), Counter[str](), Counter[str]()
        self._seconds = dict[str, float]()
        self.captioners, self.transcribers = Counter[str](), Counter[str]()
        self.languages, self.licences = Counter[str](), Counter[str]()
        self.sizes = Counter[str]()

    def add(self, clip: Clip) -> None:
        """Take a video in."""
        meta, split = clip.meta, clip.split
        said = [answer for _, answer in clip.texts] or [meta.get("caption") or ""]
        self._videos[split] += 1
        self._texts[split] += sum(map(bool, said))
        self._words[split] += sum(len(text.split()) for text in said)
        self._seconds[split] = self._seconds.get(split, 0.0) + (meta.get("duration") or 0.0)
        self.captioners[_by(meta, "captioner", "no caption")] += 1
        self.transcribers[_by(meta, "transcriber", "no transcript")] += 1
        self.languages[meta.get("language") or UNKNOWN] += 1
        self.licences[licences.of(meta)] += 1
        size = meta.get("width"), meta.get("height")
        self.sizes[f"{size[0]} × {size[1]}" if all(size) else UNKNOWN] += 1

    def splits(self) -> Iterator[Row]:
        """Yield a row for each split."""
        for split, videos in self._videos.items():
            hours = self._seconds[split] / 3600
            counts = (videos, self._texts[split], self._words[split])
            told = [f"{count:,}" for count in counts]
            yield split, told[0], f"{hours:.2f}", told[1], told[2]


def _head(data: DataSet, tally: Tally) -> dict[str, Any]:
    """Return what the hub reads: languages, and which files are which split."""
    spoken = sorted(tally.languages.keys() - {UNKNOWN})
    head: dict[str, Any] = {"language": spoken} if spoken else {}
    if pattern := OF_HUB.get(data.settings.to):
        files = [{"split": name, "path": pattern.format(split=name)} for name in data.splits]
        head["configs"] = [{"config_name": "default", "data_files": files}]
    return head | {"tags": ["video"]}


def _split(data: DataSet) -> str:
    chosen = data.settings.split
    paths = ", ".join(f"`{one}`" for one in chosen.validation_paths)
    beside = f" and {paths}" if paths else ""
    return (
        f"validation {chosen.validation:g}{beside}, test {chosen.test:g}, seed {chosen.seed}; "
        "a run of the same settings has the same"
    )


def _by(meta: Mapping[str, Any], who: str, nobody: str) -> str:
    named = [meta.get(who), meta.get(f"{who}_model")]
    return ", ".join(filter(None, named)) or nobody


def _counted(title: str, counts: Counter[str]) -> list[str]:
    """Return a table of counts, the most frequent first; none where nothing is known."""
    if not counts or [*counts] == [UNKNOWN]:
        return [f"{title}: {UNKNOWN}."]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [(name, f"{count:,}") for name, count in ordered[:SHOWN]]
    if rest := ordered[SHOWN:]:
        rows.append((f"{len(rest):,} others", f"{sum(count for _, count in rest):,}"))
    return [_table((title, "videos"), rows)]


def _left_out(data: DataSet) -> list[str]:
    """Return the videos that are not here, by reason; the note beside this card has them all."""
    left = data.chosen.left_out
    if not left:
        return ["No video of the manifest is left out."]
    lines = [f"- {plain(reason)}: {count:,}" for reason, count in reasons(left)]
    named = some(f"- {plain(name)}: {plain(reason)}" for name, reason in left)
    return [f"## Left out: {len(left):,}", "\n".join(lines), "Which:", "\n".join(named)]


def reasons(left: Iterable[tuple[str, str]]) -> list[tuple[str, int]]:
    """Count the videos that were left out by reason, the most frequent first."""
    counts = Counter(reason for _, reason in left)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _columns(data: DataSet) -> list[str]:
    absent = unknown(data)
    if not absent or data.settings.to not in ("fiftyone", "videofolder", "webdataset"):
        return []
    return [f"Without a column, as some videos lack them: {', '.join(absent)}."]


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(plain, line))} |" for line in lines)
