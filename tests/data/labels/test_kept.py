"""What of labels stays in the store, and when they are read again."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data import index
from spark_trainer.data.files import Broken
from spark_trainer.data.labels import kept
from spark_trainer.data.labels.gathering import Videos
from spark_trainer.data.labels.given import Given, changed
from spark_trainer.data.layout import Video

from .conftest import Folder


def test_an_edit_changes_one_video(folder: Folder) -> None:
    rows = {"dog.mp4": "A dog.", "talks/one.mp4": "One.", "talks/two.mp4": "Two."}

    def scan() -> Given:
        text = "".join(f"{name},{caption}\n" for name, caption in rows.items())
        folder.write("t.csv", f"path,caption\n{text}")
        return folder.index(captions="t.csv").labels

    first = scan()
    rows["dog.mp4"] = "The dog."
    rows = {"nowhere.mp4": "Nothing."} | rows  # every line moves
    second = scan()
    captions = first.known["captions"], second.known["captions"]
    assert len({*captions[0].items()} ^ {*captions[1].items()}) == 2
    assert first.known["captioned"] == second.known["captioned"]
    assert first.name != second.name


def test_nothing_is_read_again_while_files_stay(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("videos/dog.txt", "A dog.")
    folder.write("videos/none.txt", "Nothing.")
    first = folder.index()

    def refuse(*_: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(Videos, "gather", refuse)
    again = folder.index()
    assert again.labels == first.labels
    assert again.search.remarks == first.search.remarks != []
    monkeypatch.undo()
    os.utime(folder.root / "videos/dog.txt")
    assert folder.index().labels == first.labels


def test_jobs_read_what_was_there_when_the_build_began(folder: Folder) -> None:
    path = folder.write("videos/dog.txt", "A dog.")
    before = folder.index()
    path.write_text("The dog.")
    after = folder.index()
    assert folder.said(before, "captions") == {"dog.mp4": "A dog."}
    assert folder.said(after, "captions") == {"dog.mp4": "The dog."}
    assert index.load(before._config, before.snapshot).labels == before.labels
    state, copies = sorted(kept.unused(after.layout, [after.labels]), key=lambda one: one.parts)
    assert {state.stem, copies.stem} >= {before.labels.name}
    assert not kept.unused(after.layout, [before.labels, after.labels])


def test_copies_that_are_lost_are_written_again(folder: Folder) -> None:
    folder.write("videos/dog.txt", "A dog.")
    found = folder.index()
    [copy] = found.layout.labels.glob("captions/*.json")
    copy.write_text("{}")
    [video] = found.labels.known["captions"]
    told = Video(video, video, labels=found.labels.of(video, ("captions",)))
    with pytest.raises(Broken, match="the next call writes it again"):
        kept.find(found.layout, told, "captions")
    assert folder.said(folder.index(), "captions") == {"dog.mp4": "A dog."}


def test_old_copies_do_not_pile_up(folder: Folder) -> None:
    for number in range(30):
        folder.write("videos/dog.txt", f"A dog, {number}.")
        layout = folder.index().layout
    assert len([*layout.labels.glob("captions/*.json")]) == kept.BUCKETS + 1
    assert len([*layout.labels.glob("*.json")]) == kept.STATES + 1


def test_without_labels_nothing_is_looked_at(tmp_path: Path, two_clips: dict[str, str]) -> None:
    from spark_trainer.config import load

    (Path(two_clips["video_dir"]) / "dog.txt").write_text("A dog.")
    found = index.scan(load(two_clips))
    assert found.search.beside == []
    assert not found.labels
    assert not found.layout.labels.exists()
    assert not found.layout.labels_cache.exists()


def test_what_became_of_a_label() -> None:
    assert changed("", "captions=a") == "added"
    assert changed("captions=a", "") == "removed"
    assert changed("captions=a", "captions=b") == "changed"


def test_many_labels_cost_little(folder: Folder) -> None:
    """Lines of many videos that are not here; the limits, CPU time, are far from what it takes."""
    lines = "".join(f"clip-{number}.mp4,Nothing.\n" for number in range(20_000))
    folder.write("t.csv", f"path,caption\n{lines}dog.mp4,A dog.\n")
    began = time.process_time()
    folder.index(captions="t.csv")
    assert time.process_time() - began < 5
    began = time.process_time()
    folder.index(captions="t.csv")
    assert time.process_time() - began < 0.5
