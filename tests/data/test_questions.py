"""Questions from files of Video-R1's and LLaMA-Factory's users, matched to a manifest's videos."""

import json
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data import manifest, questions
from spark_trainer.data.jsonl import Broken

VIDEO_R1 = {
    "problem_id": 2,
    "problem": "What appears?",
    "data_type": "video",
    "problem_type": "multiple choice",
    "options": ["A. a cat", "B. a dog"],
    "solution": "<answer>B</answer>",
    "path": "./LLaVA-Video/part/b.mp4",
    "data_source": "LLaVA-Video",
}
LLAMA_FACTORY = {
    "messages": [
        {"role": "user", "content": "<video>Why is this funny?"},
        {"role": "assistant", "content": "Because it is."},
    ],
    "videos": ["demo/a.mp4"],
}
SHAREGPT = {
    "conversations": [
        {"from": "system", "value": "Be kind."},
        {"from": "human", "value": "<video>\nWhen?"},
        {"from": "gpt", "value": "3 to 5"},
    ],
    "videos": ["a.mp4"],
}
PLAIN = {"question": "How many?", "answer": 3, "video": "one", "unit": "dogs"}
IMAGE = {"problem": "What?", "solution": "x", "path": "a.jpg", "data_type": "image"}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three videos; two files have one name."""
    sources = {"one": ["clips/a.mp4"], "two": ["x/b.mp4", "part/b.mp4"], "three": ["y/b.mp4"]}
    entries = [
        {"id": name, "frames_dir": None, "meta": {"source_path": paths[0], "sources": paths}}
        for name, paths in sorted(sources.items())
    ]
    path = tmp_path / "manifest.jsonl"
    manifest.write(path, entries)
    return path


def joined(own: Path, rows: Any, max_bad: float = 0.5) -> dict[str, list[dict[str, Any]]]:
    file = own.with_name("questions.json")
    file.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    questions.join(file, own, max_bad)
    return {entry["id"]: entry["meta"]["questions"] for entry in manifest.read(own)}


def test_each_format_becomes_questions_of_the_videos_that_have_any(own: Path) -> None:
    found = joined(own, [VIDEO_R1, LLAMA_FACTORY, SHAREGPT, PLAIN, IMAGE])
    assert found == {
        "one": [
            {"question": "Why is this funny?", "answer": "Because it is."},
            {"question": "When?", "answer": "3 to 5"},
            {"question": "How many?", "answer": 3, "unit": "dogs"},
        ],
        "two": [
            {
                "question": "What appears?\nOptions:\nA. a cat\nB. a dog",
                "answer": "B",
                "options": ["A. a cat", "B. a dog"],
                "problem_type": "multiple choice",
            }
        ],
    }


def test_lines_of_json_will_do(own: Path) -> None:
    rows = "\ufeff" + "\n".join(json.dumps(row) for row in (PLAIN, SHAREGPT))
    assert len(joined(own, rows)["one"]) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], r"questions\.json\[0\]: expected an object"),
        ({"text": "?"}, "expected one of the keys problem, messages, conversations and question"),
        (PLAIN | {"answer": ""}, "without answer"),
        (PLAIN | {"seconds": float("nan")}, "NaN is no number; expected null"),
        (VIDEO_R1 | {"solution": None}, "expected texts as problem and solution"),
        (VIDEO_R1 | {"options": "A"}, "options: expected a list of texts"),
        (VIDEO_R1 | {"path": None}, r"expected the path of one video \(got null\)"),
        (PLAIN | {"video": ["a.mp4", "b.mp4"]}, "expected the path of one video"),
        (PLAIN | {"video": "b.mp4"}, r"b\.mp4 is 2 videos: three, two"),
        (
            LLAMA_FACTORY | {"messages": LLAMA_FACTORY["messages"] * 2},
            "one question of the user and one answer .got user, assistant, user, assistant",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_place_and_counted(
    own: Path, row: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = own.read_bytes()
    with pytest.raises(Broken, match=f"(?s)max_left_out: 1 of 2 rows .*{message}"):
        joined(own, [row, PLAIN], 0.4)
    assert own.read_bytes() == before
    assert len(joined(own, [row, PLAIN])["one"]) == 1
    assert "left out of train.text.questions" in caplog.text


def test_a_bad_line_is_named_by_its_number(own: Path) -> None:
    with pytest.raises(Broken, match=r"questions\.json:2: no JSON"):
        joined(own, json.dumps(PLAIN) + "\n{oops}\n", 0.1)


def test_a_file_about_other_videos_is_refused(own: Path) -> None:
    with pytest.raises(Broken, match="no row is about a video of"):
        joined(own, [PLAIN | {"video": "elsewhere.mp4"}])
    with pytest.raises(Broken, match=r"questions\.json: no JSON"):
        joined(own, "[1, 2")
