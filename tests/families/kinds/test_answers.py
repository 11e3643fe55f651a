"""The page of answers: whole in itself, and safe whatever a model says."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from spark_trainer.config import Run
from spark_trainer.families.kinds.answers import GeneratedAnswers, LearntAnswers, ScoredAnswer
from spark_trainer.runs.folder import RunFolder
from spark_trainer.train.tracking import Tracker

EVIL = "<script>alert('x')</script> & <img src=//evil> \"quoted\""


class Seen(HTMLParser):
    """Notes tags, addresses and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_everything_and_loads_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "rft-12345678")
    run.path.mkdir()
    images = tuple(Image.new("RGB", (64, 48), colour) for colour in ("red", "blue", "green"))
    drawn = [
        ScoredAnswer(EVIL, 1.25, {"exact": 1.0, "judge": None}, 0.707),
        ScoredAnswer("blue", 0.0, {"exact": 0.0, "judge": 0.0}, -0.707),
    ]
    likeliest = ScoredAnswer("red", None, {"exact": None, "judge": None})
    shown = GeneratedAnswers(
        "clip", EVIL, "red", images, f"What {EVIL}?", (0.0, 0.5, 1.0), likeliest, drawn
    )
    tracker = Tracker(run, -1, Run())
    learnt = LearntAnswers("other", EVIL, "When?", images[:1], (2.0,), drawn[1:])
    [record] = tracker.samples(4, [shown], [learnt])
    tracker.close()
    assert json.loads(run.sample(4).read_text()) == [record]
    assert record["generated"] == "red"
    assert record["answers"][0]["advantage"] == 0.707
    assert run.sample_pages() == [run.sample_page(4)]
    seen = Seen()
    seen.feed(run.sample_page(4).read_text(encoding="utf-8"))
    assert seen.text.count(EVIL) == 4  # prompt, reference, answer; reference
    held_out, _, learnt_from = seen.text.partition("Questions of this update")
    assert "likeliest" in held_out
    assert "2.0 s" in learnt_from
    assert "likeliest" not in learnt_from
    [listed] = json.loads(run.learnt(4).read_text())
    assert listed["answers"] == record["answers"][1:]
    assert not seen.tags & {"script", "link", "iframe"}
    assert len(seen.links) == 4
    assert all(re.match("data:image/jpeg;base64,[A-Za-z0-9+/=]+$", link) for link in seen.links)
    for value in ("rft-12345678, update 4", "1.25", "-0.707", "judge", "0.5 s", "–"):
        assert value in seen.text
