"""Kills, two builds at once, broken files: the next call mends all of it by itself."""

import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import Workspace

Built = dict[str, str]


@dataclass(frozen=True)
class Call:
    """A call of Snakemake at work, in a session of its own; its jobs may outlive it."""

    process: subprocess.Popen[bytes]
    stderr: Path

    def end(self) -> str:
        """Wait for its end; returns what it said."""
        self.process.wait(timeout=120)
        return self.stderr.read_text(encoding="utf-8")


def start(workspace: Workspace, *arguments: str) -> Call:
    """Call Snakemake, and don't wait for it."""
    path = workspace.folder / f"stderr.{time.monotonic_ns()}"
    with open(path, "w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            workspace.command(*arguments),
            cwd=workspace.folder,
            env=workspace.environment(),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    return Call(process, path)


def until(seen: Callable[[], Any]) -> Any:
    """Ask until there is something."""
    for _ in range(1200):
        if found := seen():
            return found
        time.sleep(0.05)
    raise AssertionError("nothing in 60 s")


def jobs(workspace: Workspace) -> list[int]:
    """The processes of steps at work on a workspace."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            here = os.readlink(folder / "cwd") == str(workspace.folder)
        except OSError:
            continue
        if here and b"step" in words:
            found.append(int(folder.name))
    return found


def test_a_killed_build_needs_no_manual_step(fresh: Workspace, before: Built) -> None:
    """Its jobs go on; the next call waits for them, and says so."""
    call = start(fresh, "manifest")
    [job, *_] = until(lambda: jobs(fresh))
    os.kill(job, signal.SIGSTOP)
    call.process.kill()
    call.end()
    assert list((fresh.folder / ".snakemake/locks").iterdir())
    following = start(fresh, "manifest")
    time.sleep(6)
    assert following.process.poll() is None
    assert set(jobs(fresh)) >= {job}
    os.kill(job, signal.SIGCONT)
    errors = following.end()
    assert following.process.returncode == 0, errors
    assert f"taking over from process {call.process.pid}" in errors
    assert fresh.digests() == before
    assert not list(fresh.folder.rglob("*.tmp"))
    assert not (fresh.output / ".spark/lock").exists()


@pytest.mark.long
@pytest.mark.parametrize("seconds", [0.5, 4])
def test_a_killed_group_needs_no_manual_step(
    seconds: float, fresh: Workspace, before: Built
) -> None:
    call = start(fresh, "manifest")
    time.sleep(seconds)
    os.killpg(call.process.pid, signal.SIGKILL)
    call.end()
    fresh.build()
    assert fresh.digests() == before
    assert not list(fresh.folder.rglob("*.tmp"))


@pytest.fixture
def other(fresh: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Another folder whose configuration names the same videos and the same store."""
    workspace = Workspace(tmp_path_factory.mktemp("other"))
    workspace.config |= {"video_dir": str(fresh.clips), "output_dir": str(fresh.output)}
    return workspace


def test_a_second_build_stops_at_once(fresh: Workspace, other: Workspace, before: Built) -> None:
    call = start(fresh, "manifest")
    lock = fresh.output / ".spark/lock"
    until(lambda: lock.exists() and lock.stat().st_size)
    with open(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # it is written, and let go
    os.kill(call.process.pid, signal.SIGSTOP)
    outcome = other.snakemake("manifest")
    assert outcome.status != 0
    assert "Building DAG" not in outcome.stderr
    [said] = [line for line in outcome.stderr.splitlines() if line.startswith("spark_trainer: ")]
    assert f"process {call.process.pid} on {os.uname().nodename}" in said
    assert str(fresh.folder) in said
    assert "Traceback" not in outcome.stderr
    for shown in ("--dry-run", "--dag", "--summary"):
        assert other.snakemake("manifest", shown).status == 0
    os.kill(call.process.pid, signal.SIGCONT)
    errors = call.end()
    assert call.process.returncode == 0, errors
    assert other.build() == {}
    assert fresh.digests() == before


def test_ctrl_c_gives_the_store_back(fresh: Workspace, other: Workspace, before: Built) -> None:
    call = start(fresh, "manifest")
    until(lambda: jobs(fresh))
    os.killpg(call.process.pid, signal.SIGINT)
    call.end()
    assert not (fresh.output / ".spark/lock").exists()
    other.build()
    assert fresh.digests() == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def binary(path: Path) -> None:
    path.write_bytes(b"\0\xff" * 100)


def a_list(path: Path) -> None:
    path.write_text("[1]\n", encoding="utf-8")


Damage = Callable[[Path], None]
LONG = pytest.mark.long
QUICK = ("part", "record")
BROKEN = {
    "part": ".spark/sealed/manifest/*.jsonl",
    "parts": ".spark/parts/*.json",
    "settings": ".spark/settings/manifest.*.json",
    "shard": ".spark/shards/*.json",
    "snapshot": ".spark/index/*.json",
    "record": "??/*/frames.json",
    "marker": ".spark/sealed/join/*.json",
}


@pytest.mark.parametrize(
    ("kind", "damages"),
    [
        pytest.param(kind, damages, id=f"{kind}-{damages[0].__name__}", marks=marks)
        for kind in BROKEN
        for damages, marks in (
            ((cut, empty), () if kind in QUICK else LONG),
            ((binary, a_list), LONG),
        )
        if kind in QUICK or cut in damages
    ],
)
def test_a_broken_file_is_mended(
    kind: str, damages: tuple[Damage, ...], built: Workspace, before: Built
) -> None:
    """The manifest is whole at once, or a file is named and the call after that makes it whole."""
    broken = sorted(built.output.glob(BROKEN[kind]))
    for path, damage in zip(broken, itertools.cycle(damages), strict=False):
        damage(path)
    (built.output / "manifest_v1.jsonl").unlink()
    if kind in ("record", "shard", "settings"):
        for path in built.output.glob(".spark/sealed/manifest/*.jsonl"):
            path.unlink()
    outcome = built.snakemake("manifest")
    if outcome.status:
        assert any(str(path.relative_to(built.folder)) in outcome.stderr for path in broken)
        outcome = built.snakemake("manifest")
    for _ in broken:
        if outcome.status:
            outcome = built.snakemake("manifest")
    assert outcome.status == 0, outcome.stderr
    assert built.digests() == before


@pytest.mark.parametrize("name", ["manifest_v1.features.json", "rejected_v1.jsonl"])
def test_what_lies_beside_the_manifest_is_made_again(
    name: str, built: Workspace, before: Built
) -> None:
    (built.output / name).unlink()
    built.build("manifest")
    assert built.digests() == before


def test_what_a_killed_build_held_is_free_for_another(
    fresh: Workspace, other: Workspace, before: Built
) -> None:
    """As soon as its jobs have ended, from another folder, with nothing unlocked."""
    call = start(fresh, "manifest")
    until(lambda: jobs(fresh))
    call.process.kill()
    call.end()
    following = start(other, "manifest")
    errors = following.end()
    assert following.process.returncode == 0, errors
    assert f"taking over from process {call.process.pid}" in errors
    assert fresh.digests() == before
    assert not (fresh.output / ".spark/lock").exists()


def job(workspace: Workspace, step: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a step's job by hand."""
    [settings] = workspace.output.glob(f".spark/settings/{step}.*.json")
    command = [sys.executable, "-m", "spark_trainer", "step", "--settings", str(settings)]
    return subprocess.Popen(
        [*command, "--threads", "2", *arguments],
        cwd=workspace.folder,
        env=workspace.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
@pytest.mark.parametrize("step", ["frames", "audio"])
def test_two_jobs_on_one_video(step: str, built: Workspace, before: Built) -> None:
    """That of its shard and that of the video alone: the bytes of one, nothing rejected."""
    place = built.place("dog")
    [shard] = built.output.glob(".spark/shards/b0.*.json")
    [marker] = built.output.glob(f".spark/sealed/{step}/{shard.stem}.*.jsonl")
    alone = ("--folder", place, "--video", place.partition("/")[2], "--log", "logs/alone.log")
    for delay in (0, 0.1, 0, 0.1):
        (built.output / place / f"{step}.json").unlink()
        marker.unlink(missing_ok=True)
        many = job(built, step, "--shard", str(shard), "--marker", str(marker), "--log", "logs/a")
        time.sleep(delay)
        one = job(built, step, *alone)
        for process in (one, many):
            _, errors = process.communicate()
            assert process.returncode in (0, 75), errors
        record = json.loads((built.output / place / f"{step}.json").read_text())
        assert record["status"] in ("ok", "failed")
    if built.snakemake("manifest").status:  # it names what it misses, which the next call makes
        built.build()
    assert built.digests() == before
