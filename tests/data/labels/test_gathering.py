"""Which video a label is of, and what is said of those that are of none or can't be used."""

import json
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import ConfigError
from spark_trainer.data.jsonl import Broken

from .conftest import Folder, remarks

TABLES = {
    "a.csv": "path,caption\ndog.mp4,A dog.\ntalks/one,One.\n",
    "b.csv": "\ufefffile_name;".replace(";", ",") + "text\n/data/videos/dog.mp4,A dog.\n"
    "videos/talks/one.mp4,One.\n",
    "c.tsv": "video\tcaption\nvideos\\dog.mp4\tA dog.\ntalks/one.mp4\tOne.\n",
    "d.json": json.dumps({"dog.mp4": "A dog.", "talks/one.mp4": {"caption": "One."}}),
    "e.json": json.dumps(
        [{"video": ["dog.mp4"], "prompt": "A dog."}, {"path": "talks/one", "text": "One."}]
    ),
    "f.jsonl": '{"media_path": "dog.mp4", "caption": "A dog."}\n\n'
    '{"path": "talks/one.mp4", "caption": "One."}\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_all_kinds(folder: Folder, name: str) -> None:
    folder.write(name, TABLES[name])
    found = folder.index(captions=name)
    assert folder.said(found, "captions") == {"dog.mp4": "A dog.", "talks/one.mp4": "One."}
    assert remarks(found, "captions") == []
    assert (
        "labels.captions: videos without: 2 (talks/two.mp4; walks/one.mp4)" in found.search.notes()
    )


def test_a_table_of_columns(folder: Folder) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import ipc, parquet

    table = pa.table({"video": [{"path": "dog.mp4", "bytes": None}], "caption": ["A dog."]})
    (folder.root / "data").mkdir()
    parquet.write_table(table, folder.root / "data/train-0.parquet")
    for name, writer in (("stream", ipc.new_stream), ("file", ipc.new_file)):
        (folder.root / name).mkdir()
        with writer(folder.root / name / "data.arrow", table.schema) as file:
            file.write_table(table)
    for place in ("data", "data/train-0.parquet", "stream", "file"):
        found = folder.index(captions=place)
        assert folder.said(found, "captions") == {"dog.mp4": "A dog."}, place
    folder.write("data/train-0.parquet", b"PAR1 and no more")
    with pytest.raises(Broken, match=r"labels.captions: .*train-0.parquet: no Parquet file: "):
        folder.index(captions="data")


def test_a_data_set_as_the_hub_has_it(folder: Folder, monkeypatch: Any) -> None:
    """`datasets` takes a folder for an id; a video's column is not decoded."""
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder.root / "cache")
    folder.write("hub/metadata.csv", "file_name,text\ndog.mp4,A dog.\n")
    folder.write("hub/dog.mp4", "dog.mp4")
    found = folder.index(captions=f"hub:{folder.root}/hub")
    assert folder.said(found, "captions") == {"dog.mp4": "A dog."}


def test_files_beside_videos(folder: Folder) -> None:
    folder.write("videos/dog.txt", "\ufeffA dog,\r\nwhite.\r\n")
    folder.write("videos/talks/one.mp4.txt", "One.")
    folder.write("videos/talks/one.en.srt", "1\n00:00:00,000 --> 00:00:01,000\nHello.\n")
    folder.write("videos/readme.txt", "None of a video.")
    folder.write(
        "videos/dog.info.json", json.dumps({"title": "Rex", "formats": [1], "tags": ["a"]})
    )
    found = folder.index(meta="beside")
    said = folder.said(found, "captions")
    assert said == {"dog.mp4": "A dog,\nwhite.", "talks/one.mp4": "One."}
    spoken = folder.said(found, "transcripts")["talks/one.mp4"]
    assert (spoken["ending"], spoken["language"]) == (".srt", "en")
    assert folder.said(found, "meta") == {"dog.mp4": {"title": "Rex", "tags": ["a"]}}
    assert found.labels.keys == {"tags": ["text"], "title": "text"}
    assert remarks(found, "captions") == [f"of no video here: 1 ({folder.root}/videos/readme.txt)"]
    assert not any("left out by ending" in line for line in found.search.notes())


def test_files_in_a_folder_of_their_own(folder: Folder) -> None:
    folder.write("captions/talks/one.txt", "One.")
    folder.write("captions/two.txt", "Two.")
    folder.write("captions/one.txt", "Which?")
    found = folder.index(captions="captions")
    assert folder.said(found, "captions") == {"talks/one.mp4": "One.", "talks/two.mp4": "Two."}
    [line] = remarks(found, "captions")
    assert line.startswith(f"can't be used: 1 ({folder.root}/captions/one.txt: one is 2 videos: ")


def test_one_file_beside_two_videos(folder: Folder) -> None:
    folder.write("videos/dog.mov", "another dog")
    folder.write("videos/dog.txt", "A dog.")
    found = folder.index()
    assert folder.said(found, "captions") == {}
    assert "dog.txt: it lies beside dog.mov, dog.mp4; expected a name that keeps" in str(
        remarks(found, "captions")
    )
    folder.write("videos/dog.mov.txt", "A dog.")
    assert folder.said(folder.index(), "captions") == {"dog.mov": "A dog."}


WRONG_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b" \n", "the file is empty"),
    "binary": (b"\x7fELF\x02\x01\x01\x00", "line 1: it holds U+007F"),
    "other bytes": (b"A dog\x00\x01\xff", "1: no UTF-8: byte 0xff at column 8"),
    "Latin": ("First\nÜber".encode("latin-1"), "2: no UTF-8: byte 0xdc at column 1"),
    "UTF-16": ("A dog.".encode("utf-16"), "1: the file is UTF-16; expected UTF-8"),
    "control": (b"ok\nA \x07 dog", "line 2: it holds U+0007, which is no character of a text"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_file_that_is_no_text_is_named(folder: Folder, kind: str) -> None:
    content, said = WRONG_FILES[kind]
    path = folder.write("videos/dog.txt", content)
    found = folder.index()
    assert not found.labels
    [line] = remarks(found, "captions")
    assert line.startswith(f"can't be used: 1 ({path}: {said}")


def test_a_file_that_is_too_large_is_named(folder: Folder) -> None:
    path = folder.write("videos/dog.txt", "")
    with open(path, "r+b") as file:
        file.truncate(1 << 34)
    [line] = remarks(folder.index(), "captions")
    assert "17,179,869,184 bytes; expected at most" in line


def test_rows_that_do_not_fit_are_counted_and_named(folder: Folder) -> None:
    rows = [
        "path,caption",
        "dog.mp4,A dog.",
        "dog.mp4,A dog.",
        "videos/dog.mp4,A cat.",
        "nowhere.mp4,Nothing.",
        "one.mp4,Which?",
        "talks/one.mp4,",
        ",Nobody.",
        "talks/two.mp4,a,b",
        '"talks/two.mp4","Two\n lines."',
        "other/two.mp4,Elsewhere.",
    ]
    path = folder.write("t.csv", "\n".join(rows))
    found = folder.index(captions="t.csv")
    said = folder.said(found, "captions")
    assert said == {"dog.mp4": "A dog.", "talks/two.mp4": "Two\n lines."}
    strays, wrong, twice = remarks(found, "captions")
    assert strays == f'of no video here: 2 ({path}:5: "nowhere.mp4"; {path}:12: "other/two.mp4")'
    assert wrong.startswith(f"can't be used: 4 ({path}:6: one.mp4 is 2 videos: ")
    assert f"{path}:7: without a caption; {path}:8: without path" in wrong
    assert f"{path}:9: 3 fields; expected 2, path, caption" in wrong
    assert twice == f"said twice, the first stands: 1 ({path}:4 after {path}:2)"


STOPPING: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "columns.csv": ("name,text\ndog,A dog.\n", {}, r":1: expected a column path or file_name"),
    "semicolon.csv": ("path;text\ndog;A dog.\n", {}, r':1: .* with "," between .*got ";"'),
    "commas.tsv": ("path,text\ndog,A dog.\n", {}, r':1: .* with "\\t" between .*got ","'),
    "excel.csv": (b"PK\x03\x04\x14\0\6\0\xb4", {}, ":1: the file is packed, as Excel's are"),
    "caption.csv": (
        "path,title\ndog.mp4,x\n",
        {},
        r":1: expected a column caption or text or prompt",
    ),
    "chosen.csv": (
        "path,caption\ndog.mp4,x\n",
        {"caption_key": "long"},
        r":1: expected a column long \(got path, caption\)",
    ),
    "twice.csv": ("path,path,text\na,b,c\n", {}, ":1: a column stands twice"),
    "latin.csv": ("path,caption\ndog.mp4,Ü\n".encode("latin-1"), {}, ":2: no UTF-8: byte 0xdc"),
    "wide.csv": ("path,caption\n".encode("utf-16"), {}, ":1: the file is UTF-16"),
    "quote.csv": ('path,caption\ndog.mp4,"A dog\n', {}, ":2: no CSV: "),
    "empty.csv": ("", {}, r":1: expected names of columns \(the file is empty\)"),
    "header.csv": ("path,caption\n", {}, r": expected rows \(it has none\)"),
    "broken.json": ('[{"path": "dog.mp4",', {}, ": no JSON: "),
    "mapping.json": ('{"dog.mp4": "A dog.",\n}', {}, ":2: no JSON: "),
    "a.docx": ("x", {}, "expected a file of .csv, .tsv, .json"),
}


@pytest.mark.parametrize("name", STOPPING)
def test_a_table_that_is_none_stops_the_build(folder: Folder, name: str) -> None:
    content, keys, said = STOPPING[name]
    folder.write(name, content)
    with pytest.raises((ConfigError, Broken), match=rf"^labels.captions: .*{name}.*{said}"):
        folder.index(captions=name, **keys)


def test_a_long_text_fits_in_a_field(folder: Folder) -> None:
    """Ten hours of speech are half a million characters."""
    text = "word " * 100_000
    folder.write("t.csv", f"path,transcript\ndog.mp4,{text}\n")
    found = folder.said(folder.index(transcripts="t.csv"), "transcripts")
    assert found["dog.mp4"]["cues"][0]["text"] == text.strip()


@pytest.mark.parametrize("kind", ["meta", "questions", "captions"])
def test_what_no_file_can_hold_is_named(folder: Folder, kind: str) -> None:
    """Half a character of UTF-16, as yt-dlp copies it from a page, and control characters."""
    values = {"path": "dog.mp4", "caption": "a\ud800", "question": "Who?", "answer": "b\ud800"}
    path = folder.write("t.jsonl", json.dumps(values) + "\n")
    found = folder.index(**{kind: "t.jsonl"})
    assert folder.said(found, kind) == {}
    [wrong] = [line for line in remarks(found, kind) if "can't be used" in line]
    assert wrong.endswith(f"1 ({path}:1: it holds U+D800, which is no character of a text)")


def test_a_place_that_is_not_there_stops_the_build(folder: Folder) -> None:
    with pytest.raises(ConfigError, match="nowhere: No such file or directory"):
        folder.index(captions="nowhere")
    (folder.root / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: expected files of \.txt, \.caption, \.parquet"):
        folder.index(captions="empty")


def test_questions_join_and_their_answers_have_one_type(folder: Folder) -> None:
    rows = [
        {"question": "Who?", "answer": "A dog", "video": "dog.mp4"},
        {"problem": "How many?", "solution": "<answer>3</answer>", "path": "dog.mp4"},
        {"question": "What?", "answer": 3, "video": "talks/two.mp4", "level": 1},
        {"question": "Nobody?", "video": "dog.mp4"},
    ]
    path = folder.write("qa.jsonl", "\n".join(map(json.dumps, rows)))
    found = folder.index(questions="qa.jsonl")
    asked = folder.said(found, "questions")
    assert [item["answer"] for item in asked["dog.mp4"]] == ["A dog", "3"]
    assert asked["talks/two.mp4"] == [{"question": "What?", "answer": "3", "level": 1}]
    assert found.labels.keys["questions"] == [
        {"answer": "text", "level": "whole", "question": "text"}
    ]
    assert remarks(found, "questions") == [f"can't be used: 1 ({path}:4: without answer)"]


def test_facts_of_a_table(folder: Folder) -> None:
    folder.write("t.csv", "path,caption,title,views\ndog.mp4,A dog.,Rex,7\n")
    found = folder.index(meta="t.csv")
    assert folder.said(found, "meta") == {"dog.mp4": {"title": "Rex", "views": "7"}}
    assert remarks(found, "meta") == ["left out, as the manifest has keys of that name: caption"]
    rows = [{"path": "dog", "n": 1, "x": True, "m": 1}, {"path": "talks/two", "n": 2.5, "x": "no"}]
    folder.write("t.jsonl", "\n".join(map(json.dumps, rows)))
    found = folder.index(meta="t.jsonl")
    assert found.labels.keys == {"m": "whole", "n": "number", "x": "text"}
    assert folder.said(found, "meta")["dog.mp4"] == {"n": 1.0, "x": "true", "m": 1}
    found = folder.index(meta="t.jsonl", meta_keys=["n"])
    assert found.labels.keys == {"n": "number"}


def test_transcripts_of_rows(folder: Folder) -> None:
    folder.write(
        "t.csv", "path,text,start,end\ndog.mp4,Sit.,0,1\ndog.mp4,Stay.,1,2\ntalks/two,Hi,,\n"
    )
    said = folder.said(folder.index(transcripts="t.csv"), "transcripts")
    assert [cue["text"] for cue in said["dog.mp4"]["cues"]] == ["Sit.", "Stay."]
    assert said["talks/two.mp4"]["cues"][0]["start"] is None


def test_a_package_that_is_missing_is_named(folder: Folder, monkeypatch: Any) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    folder.write("t.parquet", b"PAR1")
    for place, package in (("hub:own/clips", "datasets"), ("t.parquet", "pyarrow")):
        with pytest.raises(ConfigError, match=rf"needs the package {package}, .*\[datasets\]"):
            folder.index(captions=place)


def test_a_file_that_cannot_be_read_is_read_by_the_next_call(folder: Folder) -> None:
    path = folder.root / "videos/dog.txt"
    path.symlink_to("/proc/self/mem")  # it is a file, and its start can't be read
    found = folder.index()
    [line] = remarks(found, "captions")
    assert line.startswith(f"can't be used: 1 ({path}: Input/output error")
    assert not found.layout.labels_cache.exists()


def test_a_single_video_has_files_beside_it(folder: Folder) -> None:
    from spark_trainer.config import load
    from spark_trainer.data import index

    folder.write("videos/dog.txt", "A dog.")
    path = Path(folder.root / "videos/dog.mp4")
    keys = {
        "video_dir": str(path),
        "output_dir": str(folder.root / "o"),
        "captioner_backend": "sidecar",
    }
    assert len(index.scan(load(keys)).labels.known["captions"]) == 1
