"""Which files a build takes, what it says of the others, and what becomes of one that changes."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mounted import coarse

from .conftest import Clips, Outcome, Workspace

AS_OTHERS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@pytest.fixture
def workspace(fresh: Workspace) -> Workspace:
    """Three clips in one shard; only frames are made of them."""
    fresh.config |= {"audio": {"enabled": False}, "index": {"shard_size": 8}}
    return fresh


def as_others(workspace: Workspace, *arguments: str) -> Outcome:
    """Call Snakemake in a process that permissions hold for."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root reads everything here")
    prefix = AS_OTHERS if os.geteuid() == 0 else ()
    done = subprocess.run(
        [*prefix, *workspace.command(*arguments)],
        cwd=workspace.folder,
        env=workspace.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, {}, done.stdout, done.stderr)


def log_of(workspace: Workspace) -> str:
    """The newest log of a command."""
    [*_, newest] = sorted(workspace.folder.glob("runs/logs/*/spark_trainer.log"))
    return newest.read_text(encoding="utf-8")


def test_a_store_and_runs_among_the_videos(workspace: Workspace, clips: Clips) -> None:
    """Also of other configurations: nothing of it is a source, however often it is built."""
    workspace.config["output_dir"] = "clips/out"
    run = workspace.clips / "runs/demo-01234567"
    (run / "samples").mkdir(parents=True)
    (run / "samples/step_1.mp4").write_bytes(clips.content("dog", ""))
    for name in ("run.json", "config.yaml"):
        (run / name).touch()
    workspace.build()
    other = workspace.clips / "another/store"
    shutil.copytree(workspace.clips / "out", other, symlinks=True)
    for place in [*other.glob("??/*"), *(workspace.clips / "out").glob("??/*")]:
        (place / "pose").mkdir()
        (place / "pose/pose.mp4").write_bytes(clips.content("cup", ""))
    before = (workspace.clips / "out/manifest_v1.jsonl").read_bytes()
    outcome = workspace.snakemake("manifest")
    assert (outcome.status, outcome.jobs) == (0, {}), outcome.stderr
    assert (
        "left out as written by SparkTrainer, folders: "
        "3 in clips/another/store, 3 in clips/out, 1 in clips/runs\n"
    ) in outcome.stderr
    assert (workspace.clips / "out/manifest_v1.jsonl").read_bytes() == before
    assert before.count(b"\n") == 3


@pytest.mark.parametrize("flag", ["--dry-run", "--dag"])
def test_what_is_said_leaves_stdout_alone(workspace: Workspace, flag: str) -> None:
    (workspace.clips / "notes.txt").touch()
    (workspace.clips / "loop.mp4").symlink_to("loop.mp4")
    outcome = workspace.snakemake("manifest", flag)
    assert outcome.status == 0, outcome.stderr
    assert "video_dir: left out by ending: 1 .txt; index.extensions takes more" in outcome.stderr
    assert "video_dir: left out this time: 'clips/loop.mp4': Too many levels" in outcome.stderr
    assert "left out" not in outcome.stdout
    assert flag == "--dry-run" or outcome.stdout.startswith("digraph")


def test_an_unmounted_folder_stops(built: Workspace, before: dict[str, str]) -> None:
    """However often; the store is as it was, and so is the next build when the folder is back."""
    built.clips.rename(built.folder / "aside")
    built.clips.mkdir()
    for flags in ((), ("--dry-run",), ("--dag",), ()):
        outcome = built.snakemake("manifest", *flags)
        assert outcome.status != 0
        # A dry run of Snakemake says all on stdout; a graph goes there alone.
        said = outcome.stdout + outcome.stderr
        assert "video_dir: no video in clips, which held 3 in the last build" in said
        assert "index.allow_empty" in said
        assert "Traceback" not in said
        assert flags == ("--dry-run",) or not outcome.stdout
        assert built.digests() == before
    built.clips.rmdir()
    (built.folder / "aside").rename(built.clips)
    assert built.build() == {}
    assert built.digests() == before


def test_what_cannot_be_read_ends_no_build(workspace: Workspace, clips: Clips) -> None:
    """A folder, a file and links: named on stderr, in the log and in the summary, then built."""
    closed = [workspace.clips / "lost+found", workspace.clips / "closed.mp4"]
    closed[0].mkdir()
    shutil.move(workspace.clips / "cup.mp4", closed[0])
    closed[1].write_bytes(clips.content("cup", "11"))
    (workspace.clips / "self").symlink_to("self")
    for path in closed:
        path.chmod(0)
    outcome = as_others(workspace, "manifest")
    assert outcome.status == 0, outcome.stderr
    assert len(workspace.manifest()) == 2
    summary = outcome.stderr.rpartition("\n    videos  ")[2]
    assert "left out  3 this time" in summary
    for name in ("lost+found", "closed.mp4", "self"):
        assert f"video_dir: left out this time: 'clips/{name}': " in outcome.stderr
        assert f"video_dir: left out this time: 'clips/{name}': " in log_of(workspace)
        assert f"'clips/{name}': " in summary
    for path in closed:
        path.chmod(0o755)
    workspace.build()
    assert len(workspace.manifest()) == 4


def test_one_that_changes_during_a_build_and_one_that_goes(workspace: Workspace) -> None:
    """The other is finished, the call says so and fails, and the next one makes it good."""
    places = [workspace.place(name) for name in ("cup", "bunny")]
    with subprocess.Popen(
        workspace.command("manifest"),
        cwd=workspace.folder,
        env=workspace.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        while not (workspace.output / ".spark/index.json").exists():
            assert process.poll() is None
            time.sleep(0.001)
        with open(workspace.clips / "cup.mp4", "ab") as file:
            file.write(b"more")
        (workspace.clips / "bunny.mp4").unlink()
        output, _ = process.communicate()
    assert process.returncode != 0
    assert "cup.mp4: " in output
    assert "bunny.mp4: " in output
    assert "run snakemake again" in output
    records = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))["status"]
        for path in workspace.output.glob("??/*/frames.json")
    }
    assert [records.pop(Path(place).name) for place in places] == ["failed", "failed"]
    assert list(records.values()) == ["ok"]
    workspace.build()
    assert len(workspace.manifest()) == 2
    assert not workspace.manifest().keys() & set(places)


def test_a_store_whose_clock_counts_seconds(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with coarse(tmp_path / "disk") as place:
        workspace.config["output_dir"] = str(place / "out")
        workspace.build()
        assert (place / "out/manifest_v1.jsonl").read_text(encoding="utf-8").count("\n") == 3
        assert workspace.build() == {}


def test_home_and_one_file(workspace: Workspace) -> None:
    """As YAML holds it, and as a flag does that no shell has expanded."""
    workspace.config |= {"video_dir": "~/clips/dog.mp4", "output_dir": "$STORE/out"}
    environment = workspace.environment()
    environment |= {"HOME": str(workspace.folder), "STORE": str(workspace.folder)}
    for video_dir, count in (("~/clips/dog.mp4", 1), ("${STORE}/clips", 3)):
        workspace.command()  # writes the configuration
        command = [sys.executable, "-m", "spark_trainer", "preprocess", "--cores", "2"]
        command += ["--config", "config.yaml", "--video-dir", video_dir]
        for name in ("Snakefile", "rules", "profiles", "envs"):
            if not (workspace.folder / name).exists():
                (workspace.folder / name).symlink_to(workspace.tree / name)
        done = subprocess.run(
            command, cwd=workspace.folder, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        assert len(workspace.manifest()) == count
