"""SRT, WebVTT and JSON as programs write them, and what is wrong with each line."""

from pathlib import Path

import pytest

from spark_trainer.data.jsonl import Broken
from spark_trainer.speech import subtitles

KEY = "train.asr.references"
HUGE = ": segments[0]: expected seconds from 0 on (got 0 to inf)"
HALF = ": segments[0]: its text holds U+D800, which is no character"

SRT = """\ufeff1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> <font color="#ffff00">there</font>,
{\\an8}Anna &amp; Bob\\Nagain

2
1:00:02,5 --> 1:00:03,750  X1:0 X2:1
3 < 4 and <3

3
01:00:04,000 --> 01:00:05,000
<b></b>
"""
VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: white }

NOTE nothing
said here

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Anna>Hello</v> <00:01.500><c.yellow>there</c>

00:00:03.000 --> 00:00:04.000
Bob
"""


def said(path: Path, text: str) -> list[tuple[float | None, float | None, str, str]]:
    """What a file holds, and the end of each place."""
    path.write_text(text, encoding="utf-8")
    return [
        (cue.start, cue.end, cue.text, cue.place.removeprefix(f"{KEY}: {path}"))
        for cue in subtitles.read(path, KEY)
    ]


def test_srt_without_its_styles(tmp_path: Path) -> None:
    assert said(tmp_path / "a.srt", SRT) == [
        (1.0, 2.5, "Hello there, Anna & Bob again", ":2"),
        (3602.5, 3603.75, "3 < 4 and <3", ":7"),
    ]


def test_line_ends_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    assert said(path, SRT.replace("\n", "\r\n")) == said(path, SRT)


def test_vtt_without_its_styles(tmp_path: Path) -> None:
    assert said(tmp_path / "a.VTT", VTT) == [
        (1.0, 2.5, "Hello there", ":11"),
        (3.0, 4.0, "Bob", ":14"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.srt", "1\n00:00:03,000 --> 00:00:02,000\nx", ":2: it ends at 2 s, and starts at 3 s"),
        ("a.srt", "1\n00:00:03,000 -> 00:00:04,000\nx", ":1: expected times such as 00:00:01"),
        ("a.srt", "00:00:01,0 --> 00:00:02,0\nx\n\ny", ":4: expected times such as 00:00:01"),
        ("a.srt", "00:01,0 --> 00:02,0\nx\n00:03,0 --> 00:04,0\ny", ":3: expected an empty line"),
        ("a.srt", "00:01,0 --> 00:02,0\n&lt;|nospeech|&gt;", ":1: its text holds <|nospeech|>"),
        ("a.srt", "WEBVTT\n\n00:01.0 --> 00:02.0\nx", ":1: expected times such as 00:00:01"),
        ("a.srt", "1\n-00:01,0 --> 00:02,0\nx", ":2: expected times such as 00:00:01"),
        ("a.srt", "1\n00:75,0 --> 00:76,0\nx", ":2: expected times such as 00:00:01"),
        ("a.srt", f"1\n{'9' * 5000}:00:01,0 --> 00:02,0\nx", ":2: expected times such as 00:00:01"),
        ("a.srt", "00:01,0 --> 00:02,0\na\0b", ":1: its text holds U+0000, which is no character"),
        ("a.vtt", "WEBVTT\n00:01.0 --> 00:02.0\nx", ":2: expected an empty line before these"),
        ("a.vtt", "WEBVTT\n", ": nothing is said in it"),
        ("a.srt", "", ": nothing is said in it"),
        ("a.json", '{"text": "x"}', ": expected a mapping with a list of segments"),
        ("a.json", '{"segments":\n [}', ":2: no JSON: "),
        ("a.json", '{"segments": [{"text": "x", "start": "1", "end": 2}]}', ": segments[0]: expe"),
        ("a.json", '{"segments": [{"text": "x", "start": 2, "end": 1}]}', ": segments[0]: it ends"),
        (
            "a.json",
            '{"language": "english", "segments": [{"text": "x", "start": 0, "end": 1}]}',
            ": segments[0]: language: expected a code",
        ),
        ("a.json", '{"language": ["en"], "segments": []}', ": language: expected a code"),
        ("a.json", f'{{"segments": [{{"text": "x", "start": 0, "end": 1{"0" * 5000}}}]}}', HUGE),
        ("a.json", '{"segments": [{"text": "\\ud800", "start": 0, "end": 1}]}', HALF),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(Broken) as error:
        subtitles.read(path, KEY)
    assert str(error.value).startswith(f"{KEY}: {path}{problem}")


def test_a_cue_may_be_called_like_a_block(tmp_path: Path) -> None:
    text = "WEBVTT\n\nNOTEBOOK\n00:01.000 --> 00:02.000\nHello\n"
    assert said(tmp_path / "a.vtt", text) == [(1.0, 2.0, "Hello", ":4")]


def test_many_signs_that_begin_a_command(tmp_path: Path) -> None:
    """They are looked through once, not once for each."""
    [cue] = said(tmp_path / "a.srt", "00:01,0 --> 00:02,0\n" + "<|" * 100_000)
    assert cue[2] == "<|" * 100_000


def test_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes(b"1\n00:00:01,000 --> 00:00:02,000\nGr\xfc\xdfe")
    with pytest.raises(Broken, match=r"a\.srt:3: no UTF-8: byte 0xfc at column 3"):
        subtitles.read(path, KEY)
