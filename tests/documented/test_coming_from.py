"""What docs/coming-from.md says of other tools' files: they are read as they are."""

import json
import re
import subprocess
import sys
from pathlib import Path

from spark_trainer import config
from spark_trainer.config import Labels
from spark_trainer.data.labels.contents import of_row

from .pages import FENCED, ROOT, python_block

PAGE = ROOT / "docs/coming-from.md"


def test_captions_of_curator(tmp_path: Path) -> None:
    """Its files as its ClipWriterStage writes them: a caption for each window."""
    metas = tmp_path / "curated/metas/v0"
    metas.mkdir(parents=True)
    windows = [{"start_frame": 0, "end_frame": 256, "qwen_caption": said} for said in ("A.", "B.")]
    for name, shown in (("one", windows), ("none", [{"start_frame": 0, "end_frame": 256}])):
        clip = {"span_uuid": name, "windows": shown, "valid": True}
        (metas / f"{name}.json").write_text(json.dumps(clip))
    code = python_block("coming-from.md", "with open")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    [row] = map(json.loads, (tmp_path / "captions.jsonl").read_text().splitlines())
    assert row == {"path": "one.mp4", "caption": "A. B."}
    assert of_row("captions", row, Labels()) == ("one.mp4", "A. B.")


def test_questions_of_swift() -> None:
    [row] = [json.loads(text) for kind, text in FENCED.findall(PAGE.read_text()) if kind == "json"]
    asked = {"question": "What happens?", "answer": "A cup falls."}
    assert of_row("questions", row, Labels()) == ("clips/cup.mp4", [asked])


def test_keys_of_the_tables_are_keys() -> None:
    """The second column, which test_flags.py reads only where it names a section."""
    keys = {*config.Config.flat_keys, *config.Config.model_fields}
    cells = re.findall(r"^\| [^|]* \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE)
    told = {key for cell in cells for key in re.findall(r"`([a-z_]+)[^`]*`", cell)}
    assert {"video_dir", "output_dir", "captioner_backend"} <= told
    assert told <= {*keys, "config"}
