"""Past manifests are what they were, share what they have in common, and lose forgotten videos."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data import manifest, past
from spark_trainer.data.files import Broken
from spark_trainer.data.layout import Layout


def entry(number: int, **meta: Any) -> dict[str, Any]:
    name = hashlib.sha256(str(number).encode()).hexdigest()
    return {"id": name, "frames_dir": f"{name[:2]}/{name}/frames", "audio": None, "meta": meta}


def entries(count: int, **meta: Any) -> list[dict[str, Any]]:
    return sorted((entry(n, caption="a dog", **meta) for n in range(count)), key=lambda e: e["id"])


def write(folder: Path, said: list[dict[str, Any]]) -> Path:
    path = folder / "manifest.jsonl"
    manifest.write(path, said)
    return path


def read(layout: Layout, sha256: str) -> list[dict[str, Any]]:
    return list(past.every(layout)[sha256].entries(layout))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "out")


def test_two_that_differ_in_one_line_share_the_other_pieces(layout: Layout, tmp_path: Path) -> None:
    before = entries(3000)
    first = past.keep(layout, write(tmp_path, before), "slow-1a2b3c4d")
    sizes = {path.name: path.stat().st_size for path in past._pieces(layout)}
    assert sum(sizes.values()) < write(tmp_path, before).stat().st_size / 2
    after = [*before[:1000], entry(1, caption="new"), *before[1000:]]
    second = past.keep(layout, write(tmp_path, after))
    assert first != second
    assert len({path.name for path in past._pieces(layout)} - sizes.keys()) in (1, 2)
    assert read(layout, first) == before
    assert read(layout, second) == after
    assert past.keep(layout, write(tmp_path, before), "fast-1a2b3c4d") == first
    kept = past.every(layout)[first]
    assert (kept.videos, kept.runs) == (3000, ["fast-1a2b3c4d", "slow-1a2b3c4d"])
    assert list(past.problems(layout)) == []


def test_a_forgotten_video_is_in_none(layout: Layout, tmp_path: Path) -> None:
    before = entries(600)
    video = before[300]["id"]
    kept = [past.keep(layout, write(tmp_path, some)) for some in (before, before[:-1], before[:9])]
    assert past.holding(layout, video)
    past.forget(layout, video)
    assert past.holding(layout, video) == []
    assert read(layout, kept[0]) == [one for one in before if one["id"] != video]
    assert read(layout, kept[2]) == before[:9]
    said = past.every(layout)
    assert [said[name].forgotten for name in kept] == [1, 1, 0]
    assert [said[name].videos for name in kept] == [599, 598, 9]
    assert list(past.problems(layout)) == []
    assert list(past.unnamed(layout, kept)) == []
    left = write(tmp_path, [one for one in before if one["id"] != video])
    assert hashlib.sha256(left.read_bytes()).hexdigest() in past.digests(layout)


def test_what_nobody_names_goes_and_what_others_share_stays(layout: Layout, tmp_path: Path) -> None:
    before = entries(3000)
    first = past.keep(layout, write(tmp_path, before))
    second = past.keep(layout, write(tmp_path, before[:-1]))
    for path in past.unnamed(layout, [second, "f" * 64]):
        path.unlink()
    assert past.every(layout).keys() == {second}
    assert read(layout, second) == before[:-1]
    assert list(past.unnamed(layout, [second])) == []
    assert first not in past.every(layout)


def test_what_is_damaged_is_named(layout: Layout, tmp_path: Path) -> None:
    name = past.keep(layout, write(tmp_path, entries(2000)))
    cut, gone, *_ = past._pieces(layout)
    cut.write_bytes(cut.read_bytes()[:-9])
    gone.unlink()
    assert {path for path, _ in past.problems(layout)} == {cut, gone}
    with pytest.raises(Broken, match=r"gone|ended"):
        read(layout, name)
    short = past.keep(layout, write(tmp_path, entries(9)))
    listed = layout.past(short)
    said = json.loads(listed.read_text())
    assert past.digests(layout) >= {short}
    for other in ({"videos": 8}, {"pieces": []}, {"pieces": said["pieces"] * 2, "videos": 18}):
        listed.write_text(json.dumps(said | other))
        assert {path for path, _ in past.problems(layout)} == {cut, gone, listed}
    listed.write_text(json.dumps(said))
    past.keep(layout, write(tmp_path, entries(2000)))  # what is gone or damaged is written again
    assert not [*past.problems(layout)]
    assert read(layout, name) == entries(2000)
