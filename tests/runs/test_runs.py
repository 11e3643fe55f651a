"""The table of runs and the comparison of two, on run folders as training leaves them."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CAPTIONS = {"dog.mp4": "a dog runs", "cat.mp4": "a cat sleeps", "park.mp4": "people in a park"}
STARTED = time.mktime((2026, 10, 19, 14, 3, 0, 0, 0, -1))


class Runs:
    """Writes run folders and runs the command on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0

    def write(
        self,
        name: str,
        losses: dict[int, float],
        settings: dict[str, Any] | None = None,
        captions: dict[str, str] = CAPTIONS,
        trained: dict[str, Any] | None = None,
        **lineage: Any,
    ) -> Path:
        """A run folder: held-out losses by step; unfinished where `trained` is None."""
        made = self.folder / "runs" / name
        made.mkdir(parents=True)
        videos = self._manifest(made / "manifest.jsonl", captions)
        defaults = {
            "model_name": "tiny",
            "learning_rate": 5e-5,
            "max_steps": 300,
            "clip": {"num_frames": 8, "seconds": None},
        }
        run = {"name": name.rpartition("-")[0], "settings": defaults | (settings or {})}
        (made / "run.json").write_text(json.dumps(run))
        self.made += 1
        os.utime(made / "run.json", (STARTED + 60 * self.made,) * 2)
        origin = {
            "run": name,
            "manifest_sha256": hashlib.sha256((made / "manifest.jsonl").read_bytes()).hexdigest(),
            "videos": videos,
            "spark_trainer": "0.1.0",
            "code": "aaaa",
            "packages": {"torch": "2.15.0", "transformers": "5.23.0"},
            "gpus": [],
        }
        (made / "lineage.json").write_text(json.dumps(origin | lineage))
        self._metrics(made / "metrics.jsonl", losses)
        if trained is not None:
            (made / "trained.json").write_text(json.dumps({"device": "cpu"} | trained))
        return made

    @staticmethod
    def _manifest(path: Path, captions: dict[str, str]) -> dict[str, Any]:
        """Entries sorted by hash, as a build writes them; returns the lineage of the videos."""
        entries = [
            {
                "id": hashlib.sha256(source.encode()).hexdigest(),
                "frames_dir": "frames",
                "audio": None,
                "meta": {"caption": caption, "source_path": source},
            }
            for source, caption in captions.items()
        ]
        entries.sort(key=lambda entry: str(entry["id"]))
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        return {str(entry["id"]): {"captioner": "blip"} for entry in entries}

    @staticmethod
    def _metrics(path: Path, losses: dict[int, float]) -> None:
        lines: list[dict[str, Any]] = []
        for step, loss in losses.items():
            lines.append({"step": step, "loss": loss, "learning_rate": 1e-5})
            lines.append({"step": step, "held_out_loss": loss, "bleu": 10.0 * step / 100})
            lines[-1] |= {"rouge_l": step / 1000, "cider": step / 400}
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def call(self, *arguments: str, columns: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `python -m spark_trainer runs` in the folder."""
        environment = {"PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "PYTHONUTF8": "1"}
        return subprocess.run(
            [sys.executable, "-m", "spark_trainer", "runs", *arguments],
            cwd=self.folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def show(self, *arguments: str, columns: int = 0) -> list[str]:
        """The lines of a call that succeeds."""
        done = self.call(*arguments, columns=columns)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """A folder with a configuration, and no run yet."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("video_dir: videos\n")
    return Runs(tmp_path)


SLOW = {0: 2.5, 100: 1.5, 200: 1.25, 300: 1.75}
FAST = {0: 2.5, 100: 1.0}


def two(runs: Runs) -> None:
    """A finished run and an unfinished one."""
    trained = {"steps": 300, "first_loss": 2.5, "last_loss": 1.75, "best_loss": 1.25}
    runs.write("slow-1a2b3c4d", SLOW, trained=trained | {"best_step": 200, "skipped_samples": 0})
    runs.write("fast-5e6f7a8b", FAST, {"learning_rate": 1e-3, "clip": {"num_frames": 4}})


def test_a_line_for_each_run_and_a_column_for_what_differs(runs: Runs) -> None:
    two(runs)
    manifest = (runs.folder / "runs/slow-1a2b3c4d/manifest.jsonl").read_bytes()
    shown = "\n".join(runs.show()).replace(hashlib.sha256(manifest).hexdigest()[:8], "<digest>")
    assert shown == TABLE


TABLE = "\n".join(
    " ".join(parts)
    for parts in zip(
        [
            "run            started           state       steps       held-out loss  best        ",
            "slow-1a2b3c4d  2026-10-19 14:04  finished    300         2.500 → 1.750  1.250 at 200",
            "fast-5e6f7a8b  2026-10-19 14:05  unfinished  100 of 300  2.500 → 1.000  1.000 at 100",
        ],
        [
            " bleu  rouge_l  cider  data      videos  learning_rate  clip.num_frames",
            " 30.0  0.300    0.75   <digest>  3       5e-05          8",
            " 10.0  0.100    0.25   <digest>  3       0.001          4",
        ],
        strict=True,
    )
)


def test_a_crash_may_cut_the_last_line_of_metrics(runs: Runs) -> None:
    made = runs.write("slow-1a2b3c4d", FAST)
    with open(made / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"held_out_loss":0.1,"step":1')
    _, line = runs.show()
    assert "100 of 300" in line
    assert "2.500 → 1.000" in line


def test_a_run_that_has_not_begun(runs: Runs) -> None:
    made = runs.write("slow-1a2b3c4d", {})
    (made / "metrics.jsonl").unlink()
    heading, line = runs.show()
    assert heading.split() == ["run", "started", "state", "steps", "data", "videos"]
    assert "unfinished  0 of 300" in line


def test_a_loss_that_was_no_number_is_passed_over(runs: Runs) -> None:
    made = runs.write("slow-1a2b3c4d", FAST)
    with open(made / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"held_out_loss":null,"step":150}\n')
    _, line = runs.show()
    assert "150 of 300  2.500 → 1.000  1.000 at 100" in line


def test_a_narrow_terminal_gets_the_columns_in_blocks(runs: Runs) -> None:
    two(runs)
    lines = runs.show(columns=60)
    assert max(map(len, lines)) <= 60
    assert [line.split("  ")[0] for line in lines if line].count("slow-1a2b3c4d") == lines.count(
        ""
    ) + 1
    whole = " ".join(runs.show())
    assert set(" ".join(lines).split()) == set(whole.split())


def test_a_long_value_is_cut_in_the_middle(runs: Runs) -> None:
    runs.write("a-1a2b3c4d", FAST, {"model_name": "/data/" + "x" * 100 + "/blip"})
    runs.write("b-5e6f7a8b", FAST, {"model_name": "a\x1b[2J\nb"})
    _, first, second = runs.show()
    assert first.split()[-1].startswith("/data/xxx")
    assert first.split()[-1].endswith("xxx/blip")
    assert len(first.split()[-1]) == 40
    assert second.endswith(r'"a\u001b[2J\nb"')


def test_json_lines_hold_everything(runs: Runs) -> None:
    two(runs)
    slow, fast = map(json.loads, runs.show("--json"))
    assert (slow["run"], slow["folder"]) == ("slow-1a2b3c4d", "runs/slow-1a2b3c4d")
    assert slow["finished"]
    assert slow["results"]["best_loss"] == 1.25
    assert fast["parameters"]["clip.num_frames"] == 4
    assert fast["results"] == {
        "steps": 100,
        "first_loss": 2.5,
        "last_loss": 1.0,
        "best_loss": 1.0,
        "best_step": 100,
        "bleu": 10.0,
        "rouge_l": 0.1,
        "cider": 0.25,
    }


def test_error_rates_stand_beside_those_before_training(runs: Runs) -> None:
    """Beside a run that writes captions, whose columns stay as they are."""
    runs.write("captions-5e6f7a8b", FAST)
    made = runs.write("speech-1a2b3c4d", {})
    rates = {0: (48.0, 23.1), 24: (16.9, None), 48: (13.85, 8.9)}
    lines = [{"step": n, "wer": w, "cer": c, "insertions": 3.0} for n, (w, c) in rates.items()]
    (made / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    heading, captions, speech = runs.show()
    columns = re.split(r" {2,}", heading)
    assert columns[4:11] == ["held-out loss", "best", "bleu", "rouge_l", "cider", "wer", "cer"]
    assert re.split(r" {2,}", speech)[4:11] == [*"-----", "48.0 → 13.8", "23.1 → 8.9"]
    assert re.split(r" {2,}", captions)[6:11] == ["10.0", "0.100", "0.25", "-", "-"]
    found = json.loads(runs.show("--json")[1])["results"]
    assert (found["first_wer"], found["wer"], found["insertions"]) == (48.0, 13.85, 3.0)
    assert "first_insertions" not in found


def test_folders_come_from_the_configuration_or_the_flag(runs: Runs) -> None:
    runs.write("slow-1a2b3c4d", FAST)
    assert len(runs.show()) == 2
    (runs.folder / "runs").rename(runs.folder / "results")
    done = runs.call()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no runs in runs\n")
    assert len(runs.show("--output-dir", "results")) == 2
    (runs.folder / "config/config.yaml").write_text(
        "train: {output_dir: nowhere, runs: {slow: {output_dir: results}, fast: {}}}\n"
    )
    assert len(runs.show()) == 2


def test_what_is_no_run_is_passed_over_and_a_damaged_one_named(runs: Runs) -> None:
    runs.write("slow-1a2b3c4d", FAST)
    (runs.folder / "runs/20261019-140300").mkdir()
    damaged = runs.write("fast-5e6f7a8b", FAST)
    (damaged / "lineage.json").write_text("{")
    done = runs.call()
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.startswith("left out: runs/fast-5e6f7a8b/lineage.json: ")


def test_diff_names_what_differs(runs: Runs) -> None:
    two(runs)
    captions = {"dog.mp4": "a brown dog runs", "cat.mp4": "a cat sleeps", "sea.mp4": "waves"}
    runs.write(
        "new-99999999",
        {0: 2.5, 300: 1.75},
        captions=captions,
        trained={"steps": 300, "best_loss": 1.75, "best_step": 300},
        code="bbbb",
        packages={"torch": "2.16.0", "transformers": "5.23.0"},
    )
    old, new = (
        hashlib.sha256((runs.folder / f"runs/{name}/manifest.jsonl").read_bytes()).hexdigest()[:8]
        for name in ("slow-1a2b3c4d", "new-99999999")
    )
    assert (
        "\n".join(runs.show("diff", "slow", "new"))
        == f"""slow-1a2b3c4d → new-99999999

parameters
  the same

results
  best_loss        1.25 → 1.75
  best_step        200 → 300
  skipped_samples  0 → -

code, packages, hardware
  code            aaaa → bbbb
  packages.torch  2.15.0 → 2.16.0

data
  manifest  {old} → {new}
  videos    3 → 3
  only in slow-1a2b3c4d: 1
    park.mp4
  only in new-99999999: 1
    sea.mp4
  with another caption: 1
    dog.mp4: a dog runs → a brown dog runs"""
    )


def test_diff_of_parameters_on_the_same_data(runs: Runs) -> None:
    two(runs)
    lines = runs.show("diff", "slow", "fast")
    assert "  learning_rate    5e-05 → 0.001" in lines
    assert "  clip.num_frames  8 → 4" in lines
    assert lines[-2:] == ["data", "  the same"]


def test_diff_counts_what_it_does_not_name(runs: Runs) -> None:
    runs.write("a-11111111", FAST)
    many = {f"clip {number:02}.mp4": "" for number in range(12)}
    runs.write("b-22222222", FAST, captions=CAPTIONS | many)
    lines = runs.show("diff", "a", "b")
    assert "  only in b-22222222: 12" in lines
    assert sum(line.startswith("    clip") for line in lines) == 10
    assert lines[-1] == "    and 2 more"
    told = json.loads(runs.show("diff", "a", "b", "--json")[0])
    assert sorted(told["videos"]["only_b"].values()) == sorted(many)


def test_diff_sees_a_clip_that_changed_in_something_else(runs: Runs) -> None:
    runs.write("a-11111111", FAST)
    made = runs.write("b-22222222", FAST, manifest_sha256="0" * 64)
    text = (made / "manifest.jsonl").read_text()
    (made / "manifest.jsonl").write_text(
        text.replace('"frames_dir": "frames"', '"frames_dir": "f"', 1)
    )
    lines = runs.show("diff", "a", "b")
    assert "  the same caption, other frames, audio or facts: 1" in lines


@pytest.mark.parametrize(
    "wanted", ["slow", "sl", "slow-1a2b3c4d", "slow-1", "1a2b3c4d", "1a", "runs/slow-1a2b3c4d/"]
)
def test_a_run_may_be_called_in_many_ways(runs: Runs, wanted: str) -> None:
    two(runs)
    assert runs.show("diff", wanted, "fast")[0] == "slow-1a2b3c4d → fast-5e6f7a8b"


def test_a_whole_name_goes_before_the_beginning_of_another(runs: Runs) -> None:
    runs.write("slow-11111111", FAST)
    runs.write("slower-22222222", FAST)
    assert runs.show("diff", "slow", "slower")[0] == "slow-11111111 → slower-22222222"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            "slo",
            "'slo' is more than one run; expected one of:\n  runs/slow-11111111\n  runs/slow-22",
        ),
        (
            "quick",
            "'quick' is no run; expected one of:\n  runs/slow-11111111\n  runs/slow-22222222\n",
        ),
    ],
)
def test_a_name_that_means_no_run_or_several(runs: Runs, wanted: str, message: str) -> None:
    runs.write("slow-11111111", FAST)
    runs.write("slow-22222222", FAST)
    runs.write("other-33333333", FAST)
    done = runs.call("diff", wanted, "other")
    assert done.returncode == 1
    assert done.stderr.startswith(f"spark_trainer: {message}")
    assert ("other" in done.stderr) is (wanted == "quick")
    assert "Traceback" not in done.stderr


def test_words_that_are_no_comparison(runs: Runs) -> None:
    done = runs.call("diff", "slow")
    assert done.returncode == 1
    assert done.stderr == "spark_trainer: runs: expected nothing or `diff A B` (got 'diff slow')\n"
