"""`export`: what it says of flags and names that can't be."""

from pathlib import Path

import pytest

from spark_trainer.cli import main

CONFIG = "video_dir: videos\noutput_dir: out\nexports:\n  talk: {to: llava}\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "no manifest yet: out/manifest_v1.jsonl; `spark-trainer manifest` builds it"),
        ("other", "other: no such export; expected one of: talk"),
        ("--to llava", "--to: expected --out with it, and no names"),
        ("talk --to llava --out x", "--to: expected --out with it, and no names"),
        ("--out x", "--out, --media, --option: expected --to with them"),
        ("--to ltx --media none --out x", "export.media: expected link or copy with to: ltx"),
        ("--to txt --option shard_mb=3 --out x", "export.shard_mb: expected none with to: txt"),
        ("--to txt --option shard --out x", "--option shard: expected KEY=VALUE, such as split.va"),
        ("--to txt --option split.validation=2 --out x", "export.split.validation: expected less"),
        ("--to tex --out x", "argument --to: invalid choice: 'tex'"),
    ],
)
def test_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "--config", "config.yaml", *words.split()])
    assert ended.value.code == 1
    assert f"spark_trainer: {message}" in capsys.readouterr().err


def test_a_configuration_is_checked_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG.replace("llava", "ltx, media: none"))
    with pytest.raises(SystemExit):
        main(["export", "--config", "config.yaml"])
    said = "exports.talk.media: expected link or copy with to: ltx (got none)"
    assert said in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text(CONFIG.replace("llava", "lava"))
    with pytest.raises(SystemExit):
        main(["export", "--config", "config.yaml"])
    assert "exports.talk.to: expected 'diffusion-pipe', 'fiftyone'" in capsys.readouterr().err
