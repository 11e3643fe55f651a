"""The commands that users type, run as users run them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
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
    (effective,) = clone.glob("runs/logs/*/config.yaml")
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


def test_train_knows_the_runs_that_others_begin_with(clone: Path) -> None:
    """Each is checked among the others: what is missing here is the data alone."""
    runs = "{b: {base_run: a}, a: {model_name: some/model}}"
    (clone / "mine.yaml").write_text(f"train: {{runs: {runs}}}\n")
    done = call(clone, "train", "--config", "mine.yaml", "--manifest-path", "none.jsonl")
    said = done.stderr.splitlines()[-1]
    assert said == "spark_trainer: train.manifest_path: no such file: none.jsonl"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "no command 'bogus'; expected one of: build, correct, "),
        ([], "the following arguments are required: command; see python -m spark_trainer --help"),
        (["train", "--threads", "0"], "argument --threads: invalid count value: '0'"),
        (["preprocess", "--frame-rate", "x"], "argument --frame-rate: invalid float value: 'x'"),
        (["validate", "--config", "."], ".: expected a YAML file, not a folder"),
        (["train", "--config", ""], "argument --config: invalid file value: ''"),
        (["runs", "--output-dir", "none"], "--output-dir: no such folder: none"),
        (["report", "--manifest", "."], ".: expected a manifest, not a folder"),
        (["runs", "diff", "a", "b"], "'a' is no run; expected one of: none is there"),
        (["step", "--settings", "none.json"], "No such file or directory: none.json"),
    ],
)
def test_what_goes_wrong_is_one_line(clone: Path, arguments: list[str], message: str) -> None:
    done = call(clone, *arguments)
    assert done.returncode == (75 if arguments[:1] == ["step"] else 1)
    assert done.stderr.startswith(f"spark_trainer: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_a_manifest_that_is_none_is_said_line_by_line(clone: Path) -> None:
    done = call(clone, "report", "--manifest", "Snakefile")
    assert done.returncode == 1
    assert done.stderr.startswith("spark_trainer: Snakefile:1: no JSON: ")
    assert len(done.stderr.splitlines()) == 21
    assert done.stderr.splitlines()[-1].startswith("… and ") or "more" in done.stderr


def test_validate_of_a_folder_is_a_finding(clone: Path) -> None:
    done = call(clone, "validate", "--manifest", ".")
    assert (done.returncode, done.stderr) == (1, "")
    assert "no such manifest: ." in done.stdout


def test_a_run_without_its_model_stops_before_any_work(clone: Path) -> None:
    manifest = clone / "mine.jsonl"
    manifest.write_text(
        '{"id": "a", "frames_dir": null, "audio": null, "meta": {"caption": "x"}}\n'
    )
    done = call(clone, "train", "--manifest-path", "mine.jsonl", "--model-name", "./none")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "train.runs.default.model_name: ./none: there is no such folder" in last
    [log] = clone.glob("runs/logs/*/spark_trainer.log")
    assert last.removeprefix("spark_trainer: ") in log.read_text(encoding="utf-8")
    assert not list(clone.glob("runs/default-*"))


@pytest.mark.parametrize(
    ("redirections", "status"),
    [
        ("2>&-", 0),
        (">&- 2>&-", 0),
        (">&- <&- 2>&-", 0),
        ("> /dev/full", 75),
        ("| head -n 1", 0),
        ("2> /dev/full", 0),
    ],
)
def test_streams_that_are_closed_or_full(clone: Path, redirections: str, status: int) -> None:
    command = f"PYTHONUNBUFFERED=1 {sys.executable} -m spark_trainer validate {redirections}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.2, 0.4])
def test_ctrl_c_leaves_no_trace(clone: Path, seconds: float) -> None:
    """While modules are read and while a command works; hashing 16 GB takes longer."""
    (clone / "mine.yaml").write_text("video_dir: my videos\n")
    with open(clone / "my videos/big.mp4", "wb") as file:
        file.truncate(16 << 30)
    started = subprocess.Popen(
        [sys.executable, "-m", "spark_trainer", "index", "--config", "mine.yaml"],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    maps = Path(f"/proc/{started.pid}/maps")
    while "pydantic_core" not in maps.read_text():  # before, Python itself is being started
        time.sleep(0.002)
    time.sleep(seconds)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=30)
    assert started.returncode in (130, -signal.SIGINT)
    assert errors in ("", "spark_trainer: interrupted\n")
