"""The commands that users type, run as users run them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CLIPS = ROOT / "config/demo/clips"
PARTS = ("Snakefile", "rules", "envs", "profiles", "config")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The workflow's files in a folder of their own, and two clips beside them."""
    for name in PARTS:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / "my videos").mkdir()
    shutil.copy(CLIPS / "dog.mp4", tmp_path / "my videos")
    shutil.copy(CLIPS / "broken.mp4", tmp_path / "my videos")
    return tmp_path


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m spark_trainer` in a folder."""
    environment = {key: value for key, value in os.environ.items() if "SPARK_TRAINER" not in key}
    return subprocess.run(
        [sys.executable, "-m", "spark_trainer", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def half_seconds(path: Path) -> list[int]:
    """The half seconds of a clip in which at least one frame is shown, by PyAV."""
    with av.open(str(path)) as container:
        shown = {int(float(frame.time or 0) * 2) for frame in container.decode(video=0)}
    return sorted(shown)


def test_preprocess_drives_the_graph(clone: Path) -> None:
    flags = [
        *("--video-dir", "my videos", "--output-dir", "out put", "--extract-frames"),
        *("--frame-rate", "2", "--no-transcribe", "--no-generate-captions"),
        *("--extract-audio", "--cores", "2"),
    ]
    done = call(clone, "preprocess", *flags)
    assert done.returncode == 0, done.stderr
    (line,) = (clone / "out put/manifest_v1.jsonl").read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert entry["meta"]["source_path"] == "dog.mp4"
    assert entry["meta"]["caption"] is None
    times = entry["meta"]["frame_times"]
    assert [int(time * 2) for time in times] == half_seconds(CLIPS / "dog.mp4")
    frames = sorted(path.name for path in (clone / "out put" / entry["frames_dir"]).iterdir())
    assert frames == [f"frame_{number:06d}.jpg" for number in range(1, len(times) + 1)]
    assert (clone / "out put" / entry["audio"]).stat().st_size > 44
    (line,) = (clone / "out put/rejected_v1.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["source_path"] == "broken.mp4"
    (effective,) = clone.glob("runs/*/config.yaml")
    assert yaml.safe_load(effective.read_text())["frames"] == {"enabled": True, "frame_rate": 2.0}
    assert (effective.parent / "spark_trainer.log").exists()

    again = call(clone, "preprocess", *flags)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stderr


def test_preprocess_refuses_a_wrong_flag_before_any_work(clone: Path) -> None:
    done = call(clone, "preprocess", "--video-dir", "my videos", "--frame-rate", "0")
    assert done.returncode == 1
    assert done.stderr == ("spark_trainer: frames.frame_rate: expected greater than 0 (got 0.0)\n")
    assert not (clone / "runs").exists()


def test_wrong_configuration_ends_without_a_trace(clone: Path) -> None:
    (clone / "mine.yaml").write_text("train:\n  runs:\n    x: {bogus: 1}\n")
    for command in ("preprocess", "train", "validate", "index"):
        done = call(clone, command, "--config", "mine.yaml")
        assert done.returncode == 1
        assert "mine.yaml:\ntrain.runs.x.bogus: unknown key" in done.stderr
        assert "Traceback" not in done.stderr


def test_missing_configuration(clone: Path) -> None:
    done = call(clone, "validate", "--config", "none.yaml")
    assert done.returncode == 1
    assert done.stderr == "spark_trainer: none.yaml: No such file or directory\n"


def test_index_hashes_everything_and_says_how_much(clone: Path) -> None:
    (clone / "mine.yaml").write_text("video_dir: my videos\nindex: {max_hash_gb: 0.000001}\n")
    done = call(clone, "index", "--config", "mine.yaml")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "2 videos in 1 shards"
    cache = json.loads((clone / "data/processed/.spark/index.json").read_text())
    assert sorted(Path(path).name for path in cache) == ["broken.mp4", "dog.mp4"]


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (
            "preprocess",
            "--video-dir --output-dir --extract-frames --frame-rate --extract-audio --transcribe "
            "--whisper-model --generate-captions --captioner-backend --config",
        ),
        (
            "train",
            "--config --model-name --model-type --manifest-path --batch-size --learning-rate "
            "--num-epochs",
        ),
        ("validate", "--manifest --config"),
    ],
)
def test_documented_flags(command: str, flags: str) -> None:
    shown = call(ROOT, command, "--help").stdout
    assert not [flag for flag in flags.split() if flag not in shown]


def test_jobs_commands_are_not_shown() -> None:
    shown = call(ROOT, "--help").stdout
    assert "preprocess" in shown
    assert "Run one step" not in shown


def test_train_names_the_missing_manifest(clone: Path) -> None:
    done = call(clone, "train", "--manifest-path", "none.jsonl")
    assert done.returncode == 1
    assert "train.manifest_path: no such file: none.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
