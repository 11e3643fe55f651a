"""References beside a manifest: each belongs to one video, and what is wrong is named."""

import json
import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data.jsonl import Broken
from spark_trainer.data.sample import Unusable
from spark_trainer.speech.references import References
from spark_trainer.speech.segments import Segment

KEY = "train.asr.references"


def entry(name: str, path: str | None = None) -> dict[str, Any]:
    """A manifest's line."""
    meta = {"source_path": path, "sources": [path] if path else None}
    return {"id": name, "frames_dir": None, "audio": None, "meta": meta}


TALKS = [entry("aa", "day 1/talk.mp4"), entry("bb", "day 2/talk.mp4"), entry("cc", "end.mkv")]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "references.csv"


def read(path: Path, text: str | bytes) -> References:
    """Write a file and read it."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return References.read(path, KEY)


@pytest.mark.parametrize("name", ["cc", "end.mkv", "end"])
def test_a_video_is_found_by_its_id_or_path(table: Path, name: str) -> None:
    found = read(table, f"path,text\n{name},Good bye.\n")
    assert found.match(TALKS) == 1
    assert found.of(TALKS[2], 20.0) == [Segment(0.0, 20.0, "Good bye.")]
    assert found.of(TALKS[0], 20.0) is None


def test_texts_with_times_languages_and_lines_in_them(table: Path) -> None:
    """As a spreadsheet writes it: with a mark, quotes, CRLF, and an empty line."""
    rows = '"day 1/talk.mp4","One, ""two""\r\nthree",0.5,2,en\r\n\r\nday 1/talk.mp4,Vier,2,3.5,de'
    found = read(table, f"\ufeffpath,text,start,end,language\r\n{rows}\r\ncc,Ende,,,\r\n")
    assert found.match(TALKS) == 2
    assert found.of(TALKS[0], 20.0) == [
        Segment(0.5, 2.0, 'One, "two"\r\nthree', "en"),
        Segment(2.0, 3.5, "Vier", "de"),
    ]
    assert found.of(TALKS[2], 20.0) == [Segment(0.0, 20.0, "Ende")]
    assert pickle.loads(pickle.dumps(found)).of(TALKS[2], 20.0) == found.of(TALKS[2], 20.0)


def test_lines_of_a_video_need_not_follow_each_other(table: Path) -> None:
    found = read(table, "id,start,end,text\naa,1,2,one\ncc,1,2,eins\naa,3,4,two\n")
    assert found.of(TALKS[0], 20.0) == [Segment(1, 2, "one"), Segment(3, 4, "two")]
    assert found.of(TALKS[2], 20.0) == [Segment(1, 2, "eins")]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "expected columns separated by commas"),
        ("id;text\naa;Hello", 1, "expected columns separated by commas"),
        ("id,text,strat\naa,Hello,1", 1, "expected columns separated by commas"),
        ("id,text\naa,", 2, "without text"),
        ("id,text\naa,a\0b", 2, "its text holds U+0000, which is no character of a text"),
        ("id,text\naa,Hello\n,Hello", 3, "without id or path"),
        ("id,text\naa,Hello,you", 2, "3 fields; expected 2, id, text"),
        ("id,text\naa,Hello\naa,you", 3, "its video is that of line 2; expected start and end"),
        ("id,text,start,end\naa,Hello,1,2\naa,you,,", 3, "its video is that of line 2"),
        ("id,text,start,end\naa,Hello,1,", 2, "expected start and end, or none of the two"),
        ("id,text,start,end\naa,Hello,1,two", 2, 'end: expected seconds (got "two")'),
        ("id,text,start,end\naa,Hello,3,1", 2, "it ends at 1 s, and starts at 3 s"),
        ("id,text,start,end\naa,Hello,-1,1", 2, "expected seconds from 0 on (got -1 to 1)"),
        ("id,text,start,end\naa,Hello,1,nan", 2, "expected seconds from 0 on (got 1 to nan)"),
        ("id,text,language\naa,Hello,english", 2, 'Whisper knows (got "english")'),
        ("id,text\naa,<|en|>Hello", 2, "its text holds <|en|>, which Whisper takes as a command"),
        ('id,text\naa,Hello\nbb,"you', 3, "no CSV: unexpected end of data"),
        (b"id,text\naa,Hello\nbb,Gr\xfc\xdfe", 3, "no UTF-8: byte 0xfc at column 6"),
        ("id,text\naa,Hello".encode("utf-16"), 1, "the file is UTF-16; expected UTF-8"),
    ],
)
def test_a_wrong_line_is_named(table: Path, text: str | bytes, line: int, problem: str) -> None:
    with pytest.raises(Broken) as error:
        read(table, text)
    assert str(error.value).startswith(f"{KEY}: {table}:{line}: ")
    assert problem in str(error.value)


def test_all_wrong_lines_are_named_at_once(table: Path) -> None:
    with pytest.raises(Broken) as error:
        read(table, "id,text\n" + "aa,\n" * 30)
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert lines[-1].startswith("and ")


@pytest.mark.parametrize(
    ("rows", "line", "problem"),
    [
        ("end.mkv,a\nend.mp4,b", 3, "is called 'end.mp4'; one is called 'day 1/talk.mp4'"),
        ("talk.mp4,a", 2, "no video of the manifest is called 'talk.mp4'"),
        ("end,a", 2, "several videos are called 'end', such as 'end.mp4'; expected an id"),
        ("cc,a\nend.mkv,b", 3, "its video is that of {table}:2 too"),
    ],
)
def test_each_reference_belongs_to_one_video(
    table: Path, rows: str, line: int, problem: str
) -> None:
    found = read(table, f"path,text\n{rows}\n")
    twins = [entry("dd", "end.mp4")] if rows == "end,a" else []
    with pytest.raises(Broken) as error:
        found.match([*TALKS, *twins])
    [said] = str(error.value).splitlines()
    assert said.startswith(f"{KEY}: {table}:{line}: ")
    assert problem.format(table=f"{KEY}: {table}") in said


def test_a_rejected_video_may_have_one(table: Path) -> None:
    found = read(table, "path,text\nend.mkv,a\nbroken.mp4,b\n")
    assert found.match(TALKS, [{"id": "dd", "source_path": "broken.mp4", "reason": "cut"}]) == 1


def test_a_path_that_ends_like_anothers_is_its_own(table: Path) -> None:
    videos = [entry("aa", "talk.mp4"), entry("bb", "old/talk.mp4")]
    found = read(table, "path,text\ntalk.mp4,new\n")
    assert found.match(videos) == 1
    assert found.of(videos[1], 20.0) is None


def test_every_path_of_a_content_counts(table: Path) -> None:
    copied = entry("aa", "first.mp4")
    copied["meta"]["sources"] = ["first.mp4", "copy/second.mp4"]
    assert read(table, "path,text\ncopy/second.mp4,x\n").match([copied]) == 1


def test_a_text_without_times_has_to_fit_into_a_window(table: Path) -> None:
    found = read(table, "id,text\naa,x\nbb,fine\n")
    with pytest.raises(Unusable) as error:
        found.of(entry("aa"), 30.5)
    problem = "expected start and end where the audio is longer than 30 s (got 30.5 s)"
    assert str(error.value) == f"{KEY}: {table}:2: {problem}"
    assert found.of(entry("bb"), 30.0) == [Segment(0.0, 30.0, "fine")]


def test_a_segment_knows_its_place(table: Path) -> None:
    found = read(table, "id,text,start,end\naa,x,0,5\nbb,y,0,5\naa,z,4,6\n")
    places = [one.place for one in found.of(entry("aa"), 20.0) or ()]
    assert places == [f"{KEY}: {table}:2", f"{KEY}: {table}:4"]


def test_a_hundred_thousand_lines(table: Path) -> None:
    """In seconds, with an index of a few bytes for each; texts stay on the disk."""
    text = "word " * 40
    lines = (f"video {n // 10},{text},{n % 10},{n % 10 + 1}\n" for n in range(100_000))
    began = time.process_time()
    found = read(table, "id,text,start,end\n" + "".join(lines))
    last = found.of(entry("video 9999"), 20.0)
    assert time.process_time() - began < 10
    assert last is not None
    assert [segment.start for segment in last] == list(range(10))
    assert len(pickle.dumps(found)) < 40 * 100_000


def test_a_table_without_a_line(table: Path) -> None:
    with pytest.raises(Broken, match=f"^{KEY}: {table}: expected a line for each video"):
        read(table, "id,text\n")


def test_no_such_file(table: Path) -> None:
    with pytest.raises(Broken, match=f"^{KEY}: {table}: No such file"):
        References.read(table, KEY)


SRT = "1\n00:00:01,000 --> 00:00:02,500\n{}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "subtitles"
    (made / "day 1").mkdir(parents=True)
    (made / "day 2").mkdir()
    return made


def test_files_are_named_like_videos(folder: Path) -> None:
    (folder / "day 1/talk.srt").write_text(SRT.format("One"))
    (folder / "day 2/talk.mp4.vtt").write_text("WEBVTT\n\n00:03.000 --> 00:04.000\nTwo\n")
    said = {"language": "de", "segments": [{"start": 0, "end": 2.5, "text": " Ende", "words": []}]}
    (folder / "cc.json").write_text(json.dumps(said))
    (folder / "readme.txt").write_text("not a reference")
    found = References.read(folder, KEY)
    assert found.match(TALKS) == 3
    assert [found.of(one, 20.0) for one in TALKS] == [
        [Segment(1.0, 2.5, "One")],
        [Segment(3.0, 4.0, "Two")],
        [Segment(0.0, 2.5, "Ende", "de")],
    ]


def test_links_are_followed_once_as_where_videos_are_searched(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/talk.srt").write_text(SRT.format("Two"))
    (folder / "day 2").rmdir()
    (folder / "day 2").symlink_to(tmp_path / "elsewhere")
    (folder / "day 1/again").symlink_to(folder)
    (folder / ".kept").mkdir()
    (folder / ".kept/old.srt").write_text(SRT.format("Old"))
    found = References.read(folder, KEY)
    assert found.match(TALKS) == 1
    assert found.of(TALKS[1], 20.0) == [Segment(1.0, 2.5, "Two")]


def test_a_language_before_the_ending(folder: Path) -> None:
    (folder / "end.de.srt").write_text(SRT.format("Ende"))
    found = References.read(folder, KEY)
    assert found.match(TALKS) == 1
    assert found.of(TALKS[2], 20.0) == [Segment(1.0, 2.5, "Ende", "de")]


@pytest.mark.parametrize(
    ("names", "wrong", "problem"),
    [
        (
            ["end.srt", "other.srt"],
            "other.srt",
            "no video of the manifest is called 'other'; {talk}",
        ),
        (["end.srt", "end.vtt"], "end.vtt", "its video is that of {}end.srt too"),
        (["end.de.srt", "end.en.srt"], "end.en.srt", "its video is that of {}end.de.srt too"),
        (["end.srt", "cc.srt"], "end.srt", "its video is that of {}cc.srt too"),
    ],
)
def test_each_file_belongs_to_one_video(
    folder: Path, names: list[str], wrong: str, problem: str
) -> None:
    for name in names:
        (folder / name).write_text(SRT.format("Ende"))
    with pytest.raises(Broken) as error:
        References.read(folder, KEY).match(TALKS)
    start = f"{KEY}: {folder}/"
    said = problem.format(start, talk="one is called 'day 1/talk.mp4'")
    assert str(error.value) == f"{start}{wrong}: {said}"


def test_a_wrong_file_costs_its_video_alone(folder: Path) -> None:
    (folder / "cc.srt").write_text(SRT.format("<|en|> Ende"))
    (folder / "day 1/talk.srt").write_text(SRT.format("One"))
    found = References.read(folder, KEY)
    assert found.match(TALKS) == 2
    with pytest.raises(Unusable, match=r"cc\.srt:2: its text holds <\|en\|>"):
        found.of(TALKS[2], 20.0)
    assert found.of(TALKS[0], 20.0) == [Segment(1.0, 2.5, "One")]


def test_an_empty_folder(folder: Path) -> None:
    with pytest.raises(Broken, match=r"no references there; expected files of \.srt, \.vtt"):
        References.read(folder, KEY)
