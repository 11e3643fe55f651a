"""What nothing reaches goes; what a configuration, a manifest or a run reaches stays."""

import json
from pathlib import Path

import psutil
import pytest

from .conftest import Outcome, Workspace
from .test_forget import contents, killed

pytestmark = pytest.mark.long


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


@pytest.mark.parametrize("share", [0, 0.35, 0.6, 0.8, 0.95])
def test_a_call_that_was_killed_is_finished_by_the_next(
    left: Workspace, tmp_path: Path, share: float
) -> None:
    whole = left.copy(tmp_path / "whole")
    cut = left.copy(tmp_path / "cut")
    killed(cut, whole, share, "gc", "--yes")
    assert {Path(name).name for name in whole.digests(r"/\w+\.(json|wav)$")} == {"frames.json"}
    assert contents(cut) != contents(whole)
    gc(cut, "--yes")
    assert contents(cut) == contents(whole)
    assert "nothing to remove" in gc(cut)
    assert "frames_shard" not in cut.build()


def test_nobody_removes_while_a_build_is_at_work(built: Workspace) -> None:
    command = built.command("manifest", "--forceall")
    process = psutil.Popen(command, cwd=built.folder, env=built.environment(), stderr=-3)
    while not (built.output / ".spark/lock").exists():
        assert process.is_running()
    done = built.call("gc", "--yes")
    process.wait()
    assert done.returncode == 1
    assert "is in use by" in done.stderr
    assert Path(built.output).is_dir()
