"""How a build ends that can't go on: what its last line says, what is tried again, what is logged.

Everything is real: Snakemake, its jobs, errors of the operating system, kills, Ctrl-C.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from .conftest import REPO, Outcome, Workspace, source_tree

HAS_GPU = any(Path("/dev").glob("nvidia[0-9]*"))


def build_log(workspace: Workspace) -> str:
    """The log of the newest build."""
    newest = max(workspace.folder.glob("runs/logs/*/spark_trainer.log"))
    return newest.read_text(encoding="utf-8")


def last(outcome: Outcome) -> str:
    """The last line that a user sees."""
    return outcome.stderr.splitlines()[-1]


def start(workspace: Workspace, *targets: str) -> "subprocess.Popen[str]":
    """Start a build in a process group of its own."""
    return subprocess.Popen(
        workspace.command(*targets),
        cwd=workspace.folder,
        env=workspace.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(found: Callable[[], Any]) -> Any:
    """Wait for something that is not empty; returns it."""
    end = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.002)
    return value


def jobs_at_work(workspace: Workspace, log: str) -> list[int]:
    """The processes of the jobs of this workspace that write to such a log."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            here = (folder / "cwd").resolve() == workspace.folder.resolve()
        except OSError:
            continue
        if here and words[1:3] == ["-m", "spark_trainer"] and any(log in word for word in words):
            found.append(int(folder.name))
    return found


def kill_job(workspace: Workspace, log: str, other_than: int = 0) -> int:
    """Kill a job as the kernel does where memory runs out; returns its process."""

    def fresh() -> list[int]:
        return [pid for pid in jobs_at_work(workspace, log) if pid != other_than]

    # What a job starts has its words for an instant, too; the job itself is the eldest.
    eldest = min(until(fresh), key=lambda pid: psutil.Process(pid).create_time())
    os.kill(eldest, signal.SIGKILL)
    return int(eldest)


@pytest.fixture
def broken_weights(built: Workspace) -> Workspace:
    """A Whisper whose files are all there and whose weights are none: only loading shows it."""
    folder = built.folder / "whisper"
    folder.mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / name).write_text("{}", encoding="utf-8")
    values = {
        "backend": "faster-whisper",
        "whisper_model": str(folder),
        "device": "cpu",
        "vad": False,
    }
    built.configure("transcript", enabled=True, **values)
    return built


def test_the_settings_trouble_is_said_last_logged_twice_and_not_tried_again(
    broken_weights: Workspace,
) -> None:
    outcome = broken_weights.snakemake("manifest", "--cores", "2")
    message = "transcript.whisper_model: faster-whisper can't load"
    assert outcome.status == 1
    assert last(outcome).startswith("failed: transcript b")
    assert message in last(outcome)
    assert "spark_trainer.log" in last(outcome)
    assert "Traceback" not in outcome.stderr
    assert build_log(broken_weights).count(f"ERROR {message}") == 1
    logs = broken_weights.folder.glob("logs/transcript/b*.log")  # of the last attempts
    text = "".join(log.read_text(encoding="utf-8") for log in logs)
    assert text.count(f"ERROR not tried again: {message}") == 1


def test_the_machines_trouble_is_tried_again_and_names_the_path(built: Workspace) -> None:
    """A folder lies where a marker is to be removed: the operating system's own error."""
    obstacle = built.output / ".spark/sealed/join/x.json"
    obstacle.mkdir()
    (built.output / "manifest_v1.jsonl").unlink()
    outcome = built.snakemake("manifest")
    assert outcome.status == 1
    assert last(outcome).startswith("failed: manifest join: Is a directory: ")
    assert str(obstacle.relative_to(built.folder)) in last(outcome)
    assert "non-zero exit status 75" in outcome.stderr
    log = (built.folder / "logs/manifest/join.log").read_text(encoding="utf-8")
    assert "ERROR Is a directory: " in log  # Snakemake removes that of the attempt before
    assert build_log(built).count("ERROR Is a directory: ") == 2
    assert "Traceback" not in outcome.stderr
    obstacle.rmdir()
    assert built.build()["manifest_join"] == 1


def test_a_killed_job_is_tried_again(fresh: Workspace) -> None:
    call = start(fresh, "manifest", "--cores", "2")
    kill_job(fresh, "logs/frames/")
    _, errors = call.communicate()
    assert call.returncode == 0, errors
    assert "Trying to restart job" in errors
    assert not list(fresh.folder.glob("runs/logs/*/jobs/*"))


def test_a_job_that_is_killed_each_time_is_said_last(fresh: Workspace) -> None:
    fresh.configure("audio", enabled=False)
    fresh.configure("index", shard_size=512)
    call = start(fresh, "manifest", "--cores", "2")
    first = kill_job(fresh, "logs/frames/")
    kill_job(fresh, "logs/frames/", first)
    _, errors = call.communicate()
    line = errors.splitlines()[-1]
    assert call.returncode == 1
    assert line.startswith("failed: frames b")
    assert "ended without a message: it was killed" in line
    assert line in build_log(fresh)


def test_a_bug_of_ours_leaves_its_trace_in_the_log(fresh: Workspace, tmp_path: Path) -> None:
    fresh.tree = source_tree(tmp_path / "tree")
    step = fresh.tree / "spark_trainer/steps/manifest.py"
    with open(step, "a", encoding="utf-8") as file:
        file.write("\n\ndef part(*_: object) -> None:\n    raise KeyError('gone')\n")
    fresh.configure("audio", enabled=False)
    outcome = fresh.snakemake("manifest")
    assert outcome.status == 1
    assert "failed: manifest b" in last(outcome)
    assert "; 1 more failed; see runs/" in last(outcome)
    assert "unexpected KeyError: 'gone'" in last(outcome)
    assert "this is a bug of SparkTrainer, its trace is in runs/" in outcome.stderr
    assert "non-zero exit status 70" in outcome.stderr
    assert build_log(fresh).count("Traceback") == 2
    for log in fresh.folder.glob("logs/manifest/b*.log"):
        assert "unexpected KeyError: 'gone'" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("sign", ["Building DAG of jobs", "localrule frames_shard"])
def test_ctrl_c_ends_with_a_line(fresh: Workspace, sign: str) -> None:
    call = start(fresh, "manifest", "--cores", "2")
    assert call.stderr
    seen = []
    for line in call.stderr:
        seen.append(line)
        if sign in line:
            break
    os.killpg(call.pid, signal.SIGINT)
    out, errors = call.communicate()
    text = "".join(seen) + errors
    assert call.returncode == -signal.SIGINT, text
    assert "Traceback" not in text + out, text
    assert "interrupted" in errors.splitlines()[-1]
    assert not list(fresh.folder.glob(".snakemake/locks/*"))
    assert not list(fresh.folder.glob("runs/logs/*/jobs/*"))
    assert fresh.build()["manifest_join"] == 1


@pytest.mark.skipif(HAS_GPU, reason="is about a machine without a GPU")
def test_what_is_missing_stops_before_the_first_job(fresh: Workspace) -> None:
    """And only for what is asked: the manifest needs nothing of the training run."""
    fresh.config["train"] = {
        "model_name": "./nowhere",
        "trackers": ["mlflow"],
        "text": {"answer": "{captoin}"},
        "global_batch_size": 7,
    }
    outcome = fresh.snakemake("train")
    assert outcome.status == 1
    assert outcome.jobs == {}
    lines = outcome.stderr.splitlines()
    for line in (
        "train.runs.default.trackers: mlflow needs the package mlflow-skinny, which is not "
        "installed here",
        "train.runs.default.min_gpus: the run needs 1, and the GPUs here are 0; expected allow_cpu",
        "train.runs.default.text.answer: no video will have 'captoin'; expected one of: ",
        "train.runs.default.model_name: ./nowhere: there is no such folder, and ",
    ):
        assert any(line in each for each in lines[-4:]), outcome.stderr
        assert line in build_log(fresh)
    assert "Traceback" not in outcome.stderr
    assert not list(fresh.folder.glob(".snakemake/locks/*"))
    assert fresh.build()["manifest_join"] == 1


@pytest.mark.skipif(HAS_GPU, reason="is about a machine without a GPU")
def test_a_step_that_insists_on_a_gpu_stops_before_the_first_job(fresh: Workspace) -> None:
    fresh.configure("transcript", enabled=True, whisper_model="offline-tiny.en")
    outcome = fresh.snakemake("manifest")
    assert (outcome.status, outcome.jobs) == (1, {})
    assert last(outcome) == (
        "spark_trainer: transcript.device: cuda, but no GPU: there is none here; "
        "expected auto or cpu then"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "mine.yaml: No such file or directory"),
        (b"a: [1\nb: }", "mine.yaml: expected YAML (while parsing a flow sequence line 1, "),
        (b"\xff\xfea", "mine.yaml: expected text in UTF-8"),
        (b"frames: {bogus: 1}\n", "mine.yaml: frames.bogus: unknown key; expected one of: "),
        (b"# nothing\n", "mine.yaml: expected keys (the file holds none)"),
    ],
)
def test_a_wrong_configfile_is_one_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "mine.yaml").write_bytes(content)
    command = [sys.executable, "-m", "snakemake", "manifest", "-n", "--configfile", "mine.yaml"]
    command += ["--snakefile", str(REPO / "Snakefile")]
    command += ["--workflow-profile", str(REPO / "profiles/default")]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=Workspace(tmp_path).environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1].removeprefix("spark_trainer: ")
    assert said.startswith(message)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_can_not_be_written_is_one_line(fresh: Workspace) -> None:
    fresh.config["output_dir"] = "/proc/spark"
    outcome = fresh.snakemake("manifest")
    assert outcome.status == 1
    assert last(outcome).startswith("spark_trainer: output_dir: /proc/spark can't be written: ")
    assert "Traceback" not in outcome.stderr


def test_without_slurm_its_profile_is_one_line(
    fresh: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"  # of a machine without Slurm, which this one may have
    tools.mkdir()
    for name in ("bash", "sh", "git", "which"):
        (tools / name).symlink_to(shutil.which(name) or "/none")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{tools}")
    outcome = fresh.snakemake("manifest", "--profile", str(REPO / "profiles/slurm"))
    assert (outcome.status, outcome.jobs) == (1, {})
    assert last(outcome).startswith("spark_trainer: no squeue on the PATH: ")
    assert "Traceback" not in outcome.stderr


def test_names_that_are_no_text_and_a_terminal_that_knows_only_ascii(
    fresh: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.rename(fresh.clips / "dog.mp4", os.fsencode(fresh.clips) + b"/caf\xe9 \xf0\x9f\x98\x80.mp4")
    (fresh.clips / "empty.mp4").write_bytes(b"\xe9")
    os.rename(fresh.clips / "empty.mp4", os.fsencode(fresh.clips) + b"/\xe9.mp4")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    outcome = fresh.snakemake("manifest", "report", "validate")
    assert outcome.status == 0, outcome.stderr
    assert "Error" not in outcome.stderr
    rejected = (fresh.output / "rejected_v1.jsonl").read_text(encoding="utf-8")
    assert json.loads(rejected)["source_path"] == "\\xe9.mp4"
