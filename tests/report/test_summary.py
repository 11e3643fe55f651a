"""What the summary of a build says of a run that hears."""

import json
import os
from pathlib import Path

from spark_trainer.config import Config
from spark_trainer.data import manifest
from spark_trainer.families.kinds.transcribed import GeneratedTranscript
from spark_trainer.metrics.objective import HELD_OUT_LOSS
from spark_trainer.report import summary
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.summary import Summary


def test_a_run_that_hears(tmp_path: Path) -> None:
    manifest.write(tmp_path / "manifest_v1.jsonl", [])
    run = RunFolder(tmp_path / "talks-1a2b3c4d")
    for step, text in {0: "sore vex", 24: "Zorvex"}.items():
        shown = GeneratedTranscript("ab" * 32, 0.0, "Zorvex is down", f"{text} is down", "en")
        run.sample(step).parent.mkdir(parents=True, exist_ok=True)
        run.sample(step).write_text(json.dumps([shown.save(run.samples)]))
    Summary(
        steps=24,
        device="cpu",
        objective=HELD_OUT_LOSS,
        first=2.5,
        last=1.25,
        scores={"wer": 0.0, "cer": 0.0, "words_recall": 100.0},
        first_scores={"wer": 66.666, "cer": 21.4, "words_recall": 0.0},
    ).write(run)
    config = Config(output_dir=str(tmp_path))
    told = summary.lines(config, {"talks": run.summary})
    said = [line.text.strip() for line in told]
    assert "run talks  errors in 100 held-out words: 67 before training, 0 after" in said
    assert "held-out loss 2.500 → 1.250, wer 66.7 → 0.0, cer 21.4 → 0.0; 24 updates on cpu" in said
    assert said[said.index("abababababab") + 1 :][:3] == [
        "said          Zorvex     is down",
        "heard before  [sore vex] is down",
        "heard after   Zorvex     is down",
    ]
    # `forget` finds each by the hash.
    assert all("abababababab" in line.logged for line in told if "Zorvex" in line.text)


def test_what_can_be_done_next(tmp_path: Path) -> None:
    manifest.write(tmp_path / "manifest_v1.jsonl", [])
    (tmp_path / "report.html").touch()

    def said(video_dir: str) -> str:
        config = Config(video_dir=video_dir, output_dir=str(tmp_path))
        return " ".join(line.text for line in summary.lines(config, {})).partition("Next: ")[2]

    assert said("films").startswith(f"open {tmp_path}/report.html in a browser; `spark-trainer exp")
    assert "video_dir in config/config.yaml" in said("config/demo/clips")


def test_the_last_lines_name_the_page(tmp_path: Path) -> None:
    config = Config(output_dir=str(tmp_path))
    manifest.write(tmp_path / "manifest_v1.jsonl", [])

    def row() -> str:
        told = (one.text.split(maxsplit=1) for one in summary.lines(config, {}))
        (row,) = (one for one in told if one[:1] == ["report"])
        return row[1]

    assert row() == "`spark-trainer report` makes a page of all this"
    page = tmp_path / "report.html"
    page.touch()
    assert row() == str(page)
    os.utime(page, (0, 0))
    assert row() == f"{page} is older than this; `spark-trainer report` makes it anew"
