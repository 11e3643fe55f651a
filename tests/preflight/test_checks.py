"""What `validate` says of a manifest that somebody else wrote."""

import json
from pathlib import Path

import pytest

from spark_trainer.data.layout import Layout
from spark_trainer.preflight import checks


def line(number: int, **keys: object) -> str:
    entry = {"id": f"clip {number}", "frames_dir": None, "audio": None, "meta": {}} | keys
    return json.dumps(entry) + "\n"


def test_ids_may_be_any_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(line(2) + line(1))
    assert list(checks._manifest(path)) == []
    assert f"{path}: 2 videos" in capsys.readouterr().out


def test_a_few_problems_stand_for_all(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(line(number, audio=f"{number}.wav") for number in range(30)))
    found = list(checks._manifest(path))
    assert found[0] == f"{path}:1: no such file: 0.wav"
    assert len(found) == 21
    assert found[-1] == "and 10 more"


@pytest.mark.parametrize("text", ["", "\n", "null\n", "{\n", "[]"])
def test_nothing_to_train_on_is_a_problem(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(text)
    (problem,) = checks._manifest(path)
    assert problem.startswith(f"{path}:")


def test_a_broken_list_of_rejected_videos_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(line(1))
    rejected = Layout(tmp_path).rejected
    rejected.write_text("{\n")
    assert list(checks._manifest(path)) == [
        f"{rejected}:1: no JSON: Expecting property name enclosed in double quotes at column 3"
    ]
