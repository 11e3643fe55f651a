"""What docs/speech.md shows: references are read as they stand there, rates are what it says."""

import re
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.metrics import score, speech
from spark_trainer.speech.references import References
from spark_trainer.speech.segments import Segment

from .pages import FENCED, ROOT

PAGE = (ROOT / "docs/speech.md").read_text(encoding="utf-8")
TALKS = [
    {"id": name, "meta": {"source_path": path}}
    for name, path in {"aa": "talk.mp4", "bb": "day 2/talk.mp4"}.items()
]
SAID = [Segment(0.5, 3.2, "Zorvex is down.", None), Segment(3.2, 5.0, "Good morning.", None)]


def blocks(language: str) -> list[str]:
    """The pieces of the page in a language."""
    return [text for found, text in FENCED.findall(PAGE) if found == language]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose heading begins so."""
    found = re.search(rf"^\| {re.escape(heading)}.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found, heading
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in found[1].splitlines()]


def read(path: Path) -> list[Any]:
    """What is said in the two talks."""
    found = References.read(path, "train.asr.references")
    found.match(TALKS)
    return [found.of(one, 20.0) for one in TALKS]


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "references.csv"
    plain, timed = blocks("csv")
    path.write_text(plain)
    first, second = read(path)
    assert first == [Segment(0.0, 20.0, "Zorvex is down, she said.")]
    assert second == [Segment(0.0, 20.0, "Good morning.")]
    path.write_text(timed)
    talk, nothing = read(path)
    assert [one.language for one in talk] == ["en", "de"]
    assert [(one.start, one.end) for one in talk] == [(0.5, 3.2), (3.2, 5.0)]
    assert nothing is None


@pytest.mark.parametrize("ending", ["srt", "vtt", "json", "de.srt"])
def test_subtitles(tmp_path: Path, ending: str) -> None:
    (tmp_path / "day 2").mkdir()
    [text] = blocks(ending.removeprefix("de."))
    (tmp_path / f"day 2/talk.{ending}").write_text(text)
    nothing, talk = read(tmp_path)
    language = {"json": "en", "de.srt": "de"}.get(ending)
    assert nothing is None
    assert talk == [Segment(one.start, one.end, one.text, language) for one in SAID]


@pytest.mark.parametrize("row", rows("language | reference"), ids=lambda row: row[0])
def test_rates(row: list[str]) -> None:
    language, reference, heard, edits, wer, cer = row
    got = speech.scores([heard], [reference], [language])
    assert speech.Pair.of(heard, reference, language).marked() == edits
    shown = [f"{got[name]:.1f}" if name in got else "-" for name in ("wer", "cer")]
    assert shown == [wer, cer]


@pytest.mark.parametrize("row", rows("language | text"), ids=lambda row: row[1])
def test_what_normalisers_do(row: list[str]) -> None:
    language, text, becomes, _ = row
    assert speech.normalised(text, language) == becomes


def test_every_metric_has_its_line() -> None:
    told = {name for row in rows("metric") for name in re.findall(r"`(\w+)`", row[0])}
    assert all(map(score.is_score, told))
    computed = speech.scores(["a", ""], ["a", ""], ["de", "de"], ["a"])
    assert computed.keys() <= told
