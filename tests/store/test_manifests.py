"""What one manifest says otherwise than another is told by video and by step."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spark_trainer.data import manifest
from spark_trainer.store import manifests


def entry(number: int, **meta: Any) -> dict[str, Any]:
    name = f"{number:064x}"
    said = {"source_path": f"{number}.mp4", "caption": "a dog", "transcript": None} | meta
    return {"id": name, "frames_dir": f"00/{name}/frames", "audio": None, "meta": said}


def compare(folder: Path, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> Any:
    paths = folder / "a.jsonl", folder / "b.jsonl"
    for path, entries in zip(paths, (a, b), strict=True):
        manifest.write(path, entries)
    return manifests.difference(*map(manifests.Named.of, paths))


def test_each_change_is_told_by_the_step_that_says_it(tmp_path: Path) -> None:
    before = [entry(n) for n in range(6)]
    after = [
        *(entry(0), entry(1, caption="a cat"), entry(2, transcript="hello")),
        *(entry(3, frame_times=[0.0]), entry(4, source_path="else.mp4"), entry(7)),
    ]
    found = compare(tmp_path, before, after)
    assert found.same == 1
    assert [name.split()[1] for name in found.added] == ["7.mp4"]
    assert [name.split()[1] for name in found.removed] == ["5.mp4"]
    assert {step: len(videos) for step, videos in found.changed.items()} == {
        "select": 1,
        "transcript": 1,
        "frames": 1,
        "name": 1,
    }
    assert json.loads(found.json())["same"] == 1
    assert "other select: 1\n  000000000000 1.mp4" in found.text()


SETS = st.sets(st.integers(0, 20))


@given(SETS, SETS, SETS)
def test_every_video_is_counted_once(tmp_path_factory: Any, a: set, b: set, other: set) -> None:
    folder = tmp_path_factory.mktemp("two")
    before = [entry(n) for n in sorted(a)]
    after = [entry(n, **({"caption": "else"} if n in other else {})) for n in sorted(b)]
    found = compare(folder, before, after)
    assert len(found.added) == len(b - a)
    assert len(found.removed) == len(a - b)
    assert len(found.changed.get("select", [])) == len(a & b & other)
    assert found.same == len((a & b) - other)
