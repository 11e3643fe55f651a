"""docs/first-day.md, typed as it stands by somebody who has the wheel and six clips."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import transformers

from spark_trainer.system import gpu
from tests.families import tiny
from tests.wheel import CALL, unpacked

from .clone import REVISION
from .pages import COMMENT, FENCED, INDENTED, LINE, ROOT

PAGE = (ROOT / "docs/first-day.md").read_text(encoding="utf-8")
PIECE = re.compile(f"{FENCED.pattern}|((?-s:{INDENTED.pattern}))", re.MULTILINE | re.DOTALL)
CLIPS = {
    **{f"{name}.mp4": f"{name}.mp4" for name in ("bunny", "cup", "dog", "title")},
    "globe.mp4": "globe-reading.mp4",
    "hello.mpeg": "hello.mpeg",
}
SAID = "1\n00:00:00,400 --> 00:00:03,300\nI will show a directory.\n"
BLIP = "Salesforce/blip-image-captioning-base"
LONGEST = 25  # lines that a command may say
# Beside them, every half minute, how far each step at work is.
AT_WORK = re.compile(r"\w+: (.*, )?(about )?(\d+ h )?(\d+ min)? ?(\d+ s)?( left)?")


@dataclass
class Day:
    """What was typed, and how long each command took and what it said."""

    folder: Path
    variables: dict[str, str]
    said: dict[str, tuple[float, str]] = field(default_factory=dict)

    def type(self, line: str) -> str:
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        told = done.stdout + done.stderr
        assert done.returncode == 0, f"{line}\n{told}"
        assert "Traceback" not in told, told
        self.said[line] = (round(time.monotonic() - began, 1), told)
        return done.stdout


def place(videos: Path, text: str) -> None:
    """Put the clips and what is known of them where the page says."""
    for line in text.splitlines():
        clip, _, label = line.replace("videos/", "").partition(" ")
        shutil.copy(ROOT / "config/demo/clips" / CLIPS[clip], videos / clip)
        if label:
            name, known = label.split(maxsplit=1)
            (videos / name).write_text(SAID if name.endswith(".srt") else known)


@pytest.mark.long
@pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")
def test_a_first_day(tmp_path: Path) -> None:
    """A caption by hand is in both exports and in what both models learnt from."""
    packages = unpacked(tmp_path)
    program = tmp_path / "bin/spark-trainer"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -P\n{CALL}\n")
    program.chmod(0o755)
    config = transformers.BlipConfig.from_pretrained(ROOT / "config/demo/blip-small")
    config.text_config.max_position_embeddings = 512  # room for a caption
    home = tmp_path / f"hub/models--{BLIP.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(REVISION)
    start = tiny.blip(home / "snapshots" / REVISION)
    transformers.BlipForConditionalGeneration(config).save_pretrained(start)
    kept = {key: value for key, value in os.environ.items() if "SPARK_TRAINER" not in key}
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PATH": path}
    day = Day(tmp_path, kept | given | {"PYTHONPATH": str(packages)})
    for piece in PIECE.finditer(PAGE):
        kind, text, indented = piece.groups()
        for line in LINE.findall(indented or ""):
            command = COMMENT.sub("", line)
            if command.startswith("cd "):
                day.folder /= command.removeprefix("cd ")
            else:
                day.type(command)
        if kind == "text":
            place(day.folder / "videos", text)
        elif kind == "yaml":
            (day.folder / "config/config.yaml").write_text(text)
        elif kind == "python":
            script = tmp_path / "elsewhere.py"
            script.write_text(f"{text}\nimport sys\nassert 'spark_trainer' not in sys.modules\n")
            told = day.type(f"env -u PYTHONPATH {sys.executable} -P {script}")
    for command, (seconds, said) in day.said.items():
        print(f"{seconds:5} s {len(said.splitlines()):3} lines  {command}")
    texts = {command: said for command, (_, said) in day.said.items()}

    for command, said in texts.items():
        if command.startswith("spark-trainer"):
            assert sum(not AT_WORK.fullmatch(line) for line in said.splitlines()) <= LONGEST, said
    manifest = (day.folder / "data/processed/manifest_v1.jsonl").read_text()
    lines = [json.loads(line) for line in manifest.splitlines()]
    meta = {one["meta"]["source_path"]: one["meta"] for one in lines}
    ids = {one["meta"]["source_path"]: one["id"] for one in lines}
    right = "A cup turns on a table."
    captions = {name: (one["caption"], one["captioner"]) for name, one in meta.items()}
    assert captions["cup.mp4"] == (right, "hand")
    assert captions["dog.mp4"] == ("A white dog stands in the snow.", "sidecar")
    assert sorted(who for _, who in captions.values()) == ["blip"] * 4 + ["hand", "sidecar"]
    assert meta["hello.mpeg"]["transcript"] == "I will show a directory."
    assert "how much there might be prudently" in meta["globe.mp4"]["transcript"]
    built = texts["spark-trainer train"]
    said = next(line for line in built.splitlines() if "nothing is said" in line)
    assert "left out of train: " in said
    assert f"cup.mp4 ({ids['cup.mp4'][:12]})" in said
    assert built.index("\nmanifest: ") < built.index("\ntrain: ")  # not after hours of training
    assert texts["spark-trainer runs"].count("finished") == 2
    assert right in (day.folder / "exports/talks/train.json").read_text()
    first, weights, heard = told.splitlines()
    assert right in first
    assert int(weights) > 0
    assert "directory" in heard
