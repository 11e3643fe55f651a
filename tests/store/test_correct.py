"""A video is corrected by its file or hash, with the author's name, and only if it is known."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from spark_trainer import cli
from spark_trainer.config import Config, load
from spark_trainer.data import corrections, forgotten, index
from spark_trainer.data.files import file_digest
from spark_trainer.data.forgotten import Tombstone
from spark_trainer.data.layout import Layout
from spark_trainer.speech import subtitles
from spark_trainer.store import correct

SRT = "1\n00:00:00,500 --> 00:00:01,250\nhello there\n\n2\n01:00:02,000 --> 01:00:03,001\nbye\n"


@pytest.fixture
def config(two_clips: dict[str, str]) -> Config:
    """A store of two clips, nothing built."""
    found = load(two_clips)
    index.scan(found)
    return found


@pytest.fixture
def dog(config: Config) -> str:
    """The hash of a video."""
    return file_digest(config.video_dirs[0] / "dog.mp4")


def call(config: Config, tmp_path: Path, *words: str) -> int:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude={"train"})))
    with pytest.raises(SystemExit) as done:
        cli.main(["correct", *words, "--config", str(path)])
    return int(done.value.code or 0)


def test_times_of_subtitles_are_kept() -> None:
    said = correct.spoken(SRT)
    assert said["text"] == "hello there bye"
    assert [one["start"] for one in said["segments"]] == [0.5, 3602.0]
    assert correct.spelled(said["text"], said["segments"]) == SRT
    assert correct.spoken("WEBVTT\n\n00:00.500 --> 00:01.250\nhello") == {
        "text": "hello",
        "segments": [{"start": 0.5, "end": 1.25, "text": "hello"}],
    }
    assert correct.spoken(" just words\r\n") == {"text": "just words"}
    with pytest.raises(subtitles.Broken, match="transcript:2: expected times"):
        correct.spoken("1\nnow --> then\nhello")


def test_the_command_says_who_said_what(
    config: Config, dog: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subtitle = tmp_path / "dog.srt"
    subtitle.write_text(f"\ufeff{SRT}", encoding="utf-8")
    words = ("--transcript", f"@{subtitle}", "--caption", "a dog", "--author", "Ada")
    assert call(config, tmp_path, "dog.mp4", *words) == 0
    assert call(config, tmp_path, dog[:8], "--flag", "look again", "--author", "Bob") == 0
    said = corrections.find(config.corrections, dog).said
    assert {kind: one.author for kind, one in said.items()} == {
        **dict.fromkeys(("caption", "transcript"), "Ada"),
        "flag": "Bob",
    }
    capsys.readouterr()
    assert call(config, tmp_path, dog) == 0
    shown = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert json.loads(shown["transcript"])["segments"][1]["text"] == "bye"
    assert call(config, tmp_path, dog, "--clear", "flag", "transcript") == 0
    assert call(config, tmp_path, dog, "--clear") == 0
    assert list(config.corrections.iterdir()) == []


def test_an_author_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("LOGNAME", "ada")
    assert correct.author() == "ada"
    for words in (["init", "-q"], ["config", "user.name", "Ada Lovelace"]):
        subprocess.run(["git", *words], check=True)
    assert correct.author() == "Ada Lovelace"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nothing.mp4", "--flag", "x"), "no video here"),
        (("0" * 64, "--flag", "x"), "no such video here; `spark-trainer manifest` builds it"),
        (("dog.mp4", "--flag", "x", "--clear"), "--flag: expected it or --clear, not both"),
        (("dog.mp4", "--caption", " "), "caption.text: expected text that is not empty"),
        (("dog.mp4", "--transcript", "@none.srt"), "No such file or directory: none.srt"),
        (("dog.mp4", "--transcript", "@{folder}/latin.txt"), "expected text in UTF-8"),
        (("dog.mp4", "--clear", "title"), "invalid choice"),
    ],
)
def test_what_cannot_be_corrected(
    config: Config,
    tmp_path: Path,
    words: tuple[str, ...],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    words = tuple(word.replace("{folder}", str(tmp_path)) for word in words)
    assert call(config, tmp_path, *words) == 1
    assert expected in capsys.readouterr().err
    assert not config.corrections.exists()


def test_a_forgotten_video_is_not_spoken_of(config: Config, dog: str) -> None:
    layout = Layout(Path(config.output_dir))
    Tombstone(dog, "2026-11-27", "Ada", "no consent").write(layout)
    assert dog in forgotten.every(layout)
    said: dict[str, Any] = {"flag": "x"}
    with pytest.raises(correct.UserError, match="is forgotten"):
        correct.Editor(config, "Ada").correct(dog, said)
