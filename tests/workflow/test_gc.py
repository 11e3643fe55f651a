"""What nothing reaches goes; what a configuration, a manifest or a run reaches stays."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Outcome, Workspace
from .test_forget import contents, kill, removals
from .test_store import start, until

pytestmark = pytest.mark.long

MODULE = "import runpy; runpy.run_module('spark_trainer', run_name='__main__', alter_sys=True)"


def gc(workspace: Workspace, *words: str) -> str:
    done = workspace.call("gc", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory, first: tuple[Workspace, Outcome]) -> Workspace:
    """A store after a video was removed, another renamed and a step switched off."""
    workspace = first[0].copy(tmp_path_factory.mktemp("left"))
    (workspace.clips / "dog.mp4").unlink()
    (workspace.clips / "cup.mp4").rename(workspace.clips / "mug.mp4")
    workspace.configure("audio", enabled=False)
    said = json.loads(workspace.call("plan", "manifest", "--json").stdout)
    results = {one["what"] for one in said["unreachable"]}
    assert results == {"results of dog.mp4", "results of audio of 2 videos"}
    workspace.build()
    return workspace


def test_a_fresh_store_has_nothing_to_remove(built: Workspace) -> None:
    assert "nothing to remove" in gc(built)
    assert built.build() == {"manifest": 1} or built.build() == {}


def test_what_is_left_of_earlier_states_goes(built: Workspace) -> None:
    """A video that was removed, a captioner that was taken out, other settings, old logs."""
    built.config["caption"] = {"enabled": True, "captioner_backend": "imagenet-tags"}
    built.build()
    place = built.place("dog")
    (built.clips / "dog.mp4").unlink()
    built.configure("caption", enabled=False)
    built.configure("frames", frame_rate=2.0)
    told = gc(built, "--dry-run")
    assert place not in told  # the manifest still names it
    built.build()
    told = gc(built, "--dry-run", "--logs-older-than", "0")
    before = built.digests()
    assert place in told
    assert built.digests() == before
    gc(built, "--yes", "--logs-older-than", "0")
    assert not (built.output / place).exists()
    assert not list(built.folder.glob("runs/logs/*/spark_trainer.log"))
    assert "nothing to remove" in gc(built)
    assert "frames_shard" not in built.build()
    after = built.digests()
    assert {path: before[path] for path in after} == after
    assert place not in "".join(built.manifest())


def test_what_is_away_stays(built: Workspace) -> None:
    """A folder that held videos and is empty may not be mounted."""
    folder = built.clips / "disk"
    folder.mkdir()
    (built.clips / "dog.mp4").rename(folder / "dog.mp4")
    built.build()
    place = built.place("disk/dog")
    folder.rename(built.folder / "away")
    folder.mkdir()
    built.build()
    assert place not in "".join(built.manifest())
    done = built.call("gc", "--yes")
    assert "is it mounted?" in done.stderr
    assert place not in done.stdout
    assert (built.output / place / "frames.json").is_file()
    folder.rmdir()
    assert place in gc(built, "--dry-run")


def test_what_the_user_wrote_stays(built: Workspace) -> None:
    """Also within folders that go; links are not followed, and stay."""
    place = built.place("dog")
    (built.clips / "dog.mp4").unlink()
    built.build()
    outside = built.folder / "outside"
    outside.mkdir()
    (outside / "spark_trainer.log").touch()
    (built.output / "encoded/mine").mkdir(parents=True)
    link = built.folder / "runs/logs/20200101-000000"
    link.symlink_to(outside)
    log = next(built.folder.glob("runs/logs/2[0-9]*-*/jobs")).parent
    mine = [built.output / place / "notes.txt", log / "notes.txt", built.output / "encoded/mine/a"]
    for path in mine:
        path.write_text("mine")
    told = gc(built, "--yes", "--logs-older-than", "0")
    assert "not written by SparkTrainer, and stays: 3 files, 12 bytes" in told
    assert all(path.is_file() for path in mine)
    assert [path.name for path in (built.output / place).iterdir()] == ["notes.txt"]
    assert [path.name for path in log.iterdir()] == ["notes.txt"]
    assert link.is_symlink()
    assert (outside / "spark_trainer.log").is_file()
    told = gc(built)
    assert "notes.txt" in told
    assert "nothing to remove" in told


def test_folders_that_are_named_after_files(fresh: Workspace) -> None:
    fresh.config["deterministic_layout"] = False
    fresh.build()
    (fresh.clips / "dog.mp4").unlink()
    assert "out/dog" not in gc(fresh, "--dry-run")  # the manifest still names it
    fresh.build()
    gc(fresh, "--yes")
    assert {path.name for path in fresh.output.glob("[!.]*/")} == {"bunny", "cup"}
    assert fresh.build() == {}


def test_a_run_of_another_version_keeps_what_it_takes(built: Workspace) -> None:
    """One that is damaged stops it: nobody knows what it takes."""
    encoders = built.output / "encoded/0123456789abcdef"
    (encoders / "texts/ab").mkdir(parents=True)
    assert str(encoders.relative_to(built.folder)) in gc(built, "--dry-run")
    run = built.folder / "other/old-1a2b3c4d/run.json"
    run.parent.mkdir(parents=True)
    run.write_text(json.dumps({"settings": {"of": "then"}, "encoded": str(encoders)}))
    built.configure("train", model_name="tiny", output_dir="other")
    (built.folder / "also.yaml").write_text(json.dumps(built.config))
    del built.config["train"]
    assert "encoded" in gc(built, "--dry-run")
    assert "encoded" not in gc(built, "--dry-run", "--also", "also.yaml")
    assert "encoded" not in gc(built, "--dry-run", "--runs", "other")
    run.write_text("{")
    done = built.call("gc", "--yes", "--runs", "other")
    assert done.returncode == 75
    assert str(run.relative_to(built.folder)) in done.stderr


@pytest.mark.parametrize(("keys", "stays"), [(b"\x04", True), (b"n\n", True), (b"y\n", False)])
def test_it_asks(left: Workspace, tmp_path: Path, keys: bytes, stays: bool) -> None:
    """Ctrl-D is a no."""
    workspace = left.copy(tmp_path / "here")
    before = contents(workspace)
    terminal, own = pty.openpty()
    command = [sys.executable, "-m", "spark_trainer", "gc", "--config", "config.yaml"]
    place = {"cwd": workspace.folder, "env": workspace.environment()}
    os.write(terminal, keys)
    done = subprocess.run(command, stdin=own, capture_output=True, text=True, check=False, **place)
    os.close(terminal)
    os.close(own)
    assert (contents(workspace) == before) is stays
    assert done.returncode == stays
    assert ("nothing was removed" in done.stderr) is stays


def test_nobody_is_there_to_be_asked(left: Workspace) -> None:
    done = left.call("gc", program=("-c", "import sys; sys.stdin = None; " + MODULE))
    assert done.returncode == 1
    assert "nobody can be asked here" in done.stderr


@pytest.mark.parametrize("days", ["nan", "-1", "many"])
def test_days_are_a_number(built: Workspace, days: str) -> None:
    done = built.call("gc", "--dry-run", f"--logs-older-than={days}")
    assert done.returncode == 1
    assert "--logs-older-than" in done.stderr


@pytest.fixture(scope="module")
def collected(
    left: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, list[str]]:
    """A copy from which all went at once, and what was removed."""
    workspace = left.copy(tmp_path_factory.mktemp("collected"))
    return workspace, removals(workspace, "gc", "--yes")


# Half-way through all; and between the files of a result and the record that names them.
@pytest.mark.parametrize(
    ("share", "called"), [(0, ""), (0.35, ""), (0.7, ""), (0.95, ""), (0, "audio.json")]
)
def test_a_call_that_was_killed_is_finished_by_the_next(
    left: Workspace,
    collected: tuple[Workspace, list[str]],
    tmp_path: Path,
    share: float,
    called: str,
) -> None:
    (whole, removed), cut = collected, left.copy(tmp_path / "cut")
    kill(cut, removed, share, called, "gc", "--yes")
    assert {Path(name).name for name in whole.digests(r"/\w+\.(json|wav)$")} == {"frames.json"}
    assert contents(cut) != contents(whole)
    gc(cut, "--yes")
    assert contents(cut) == contents(whole)
    assert "nothing to remove" in gc(cut)
    assert "frames_shard" not in cut.build()


def test_nobody_removes_while_a_build_is_at_work(built: Workspace) -> None:
    build, lock = start(built, "manifest", "--forceall"), built.output / ".spark/lock"
    until(lambda: lock.exists() and lock.stat().st_size)
    with open(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # it is written, and let go
    os.kill(build.process.pid, signal.SIGSTOP)
    done = built.call("gc", "--yes")
    os.kill(build.process.pid, signal.SIGCONT)
    build.end()
    assert done.returncode == 1
    assert "is in use by" in done.stderr
    assert Path(built.output).is_dir()
