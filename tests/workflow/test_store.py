"""Kills, two builds at once, broken files, a full disk: the next call mends all of it by itself."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
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
@pytest.mark.parametrize("seconds", [0.5, 2, 3, 4, 5, 6, 7, 8, 10, 12])
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
    until((fresh.output / ".spark/lock").exists)
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


BROKEN = {
    "part": ".spark/sealed/manifest/*.jsonl",
    "parts": ".spark/parts/*.json",
    "settings": ".spark/settings/manifest.*.json",
    "shard": ".spark/shards/*.json",
    "snapshot": ".spark/index/*.json",
    "record": "??/*/frames.json",
    "seal": ".spark/sealed/join/*.json",
}


@pytest.mark.parametrize(
    "damage", [cut, *(pytest.param(one, marks=pytest.mark.long) for one in (empty, binary, a_list))]
)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_mended(
    kind: str, damage: Callable[[Path], None], built: Workspace, before: Built
) -> None:
    """The manifest is whole at once, or a file is named and the call after that makes it whole."""
    broken = sorted(built.output.glob(BROKEN[kind]))
    for path in broken:
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


@pytest.fixture
def small(fresh: Workspace) -> Iterator[Callable[[str], None]]:
    """Put the store on a disk of a size that can be changed."""
    fresh.output.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "store", fresh.output]).returncode:
        pytest.skip("only root can mount a small disk")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", fresh.output], check=True)

    yield resize
    subprocess.run(["umount", fresh.output], check=True)


def test_a_full_disk_is_named_and_nothing_is_lost(
    fresh: Workspace, small: Callable[[str], None], before: Built
) -> None:
    small("64k")
    outcome = fresh.snakemake("manifest")
    assert outcome.status != 0
    said = re.findall(
        r"No space left on device: (.*)|No space left on device: '(.*)'", outcome.stderr
    )
    assert any(str(fresh.output.name) in "".join(path) for path in said), outcome.stderr
    assert not (fresh.output / "manifest_v1.jsonl").exists()
    small("50m")
    fresh.build()
    assert fresh.digests() == before
