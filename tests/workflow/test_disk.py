"""A store whose disk is full, read-only or in trouble: said in the last line, mended by a call."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounted import Disk, small

from .conftest import Outcome, Workspace
from .test_kills import left, nobody_is_rejected, steps

Built = dict[str, str]
PAGE = 4096
ROOM, GROWTH = 3 * PAGE, 1.3  # more with each call, in the test of the steps that run models


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Put the store on a disk whose options can be changed."""
    with small(tmp_path / "out") as found:
        yield found


def ends_well(outcome: Outcome, workspace: Workspace, cause: int) -> None:
    """It is done, or its last line names a path in the store and the cause."""
    nobody_is_rejected(workspace)
    if outcome.status == 0:
        return
    said = outcome.stderr.splitlines()[-1]
    assert os.strerror(cause) in said, outcome.stderr
    assert any(path in said for path in ("out/", "output_dir: out ", f"{workspace.output}")), said
    assert "Traceback" not in outcome.stderr


LONG = [pytest.param(f"size={size}k", marks=pytest.mark.long) for size in (4, 32, 220)]
INODES = [pytest.param(f"nr_inodes={count}", marks=pytest.mark.long) for count in (20,)]


@pytest.mark.parametrize("options", ["size=64k", "size=160k", *LONG, *INODES])
def test_a_full_disk_is_named_and_nothing_is_lost(
    options: str, disk: Disk, fresh: Workspace, before: Built
) -> None:
    disk.remount(options)
    ends_well(fresh.snakemake("manifest"), fresh, errno.ENOSPC)
    disk.remount("size=50m,nr_inodes=10000")
    fresh.build()
    assert fresh.digests() == before
    assert not list(fresh.output.rglob("*.tmp"))


def test_a_store_that_is_read_only_is_named(disk: Disk, fresh: Workspace, before: Built) -> None:
    disk.remount("ro")
    outcome = fresh.snakemake("manifest")
    assert outcome.status != 0
    ends_well(outcome, fresh, errno.EROFS)
    disk.remount("rw")
    fresh.build()
    assert fresh.digests() == before


@pytest.mark.long
def test_models_meet_a_full_disk(disk: Disk, built: Workspace, tmp_path: Path) -> None:
    """Each call has more room than the one before, so that several steps meet the end of it."""
    steps(built)
    calm = built.copy(tmp_path / "calm")
    calm.build()
    failed, room = [], float(ROOM)
    for _ in range(20):
        disk.fill(int(room))
        room *= GROWTH
        outcome = built.snakemake("manifest")
        ends_well(outcome, built, errno.ENOSPC)
        if outcome.status == 0:
            break
        failed.append(outcome.stderr.splitlines()[-1])
    print("\n".join(failed))
    assert len(failed) > 1
    disk.remount("size=50m")
    built.build()
    assert dict(left(built.output)) == dict(left(calm.output))


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes system calls fail; see errno_shim.c."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    made = tmp_path_factory.mktemp("shim") / "errno_shim.so"
    source = Path(__file__).with_name("errno_shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
    return made


FAILURES = [
    ("write", errno.EDQUOT, 5),
    ("write", errno.EIO, 1),
    ("open", errno.EIO, 5),
    ("open", errno.EMFILE, 1),
    ("open", errno.ESTALE, 1),
    ("open", errno.EACCES, 5),
    ("rename", errno.EPERM, 1),
]


@pytest.mark.long
@pytest.mark.parametrize(("call", "number", "count"), FAILURES)
def test_the_systems_errors_are_never_held_against_a_video(
    call: str,
    number: int,
    count: int,
    shim: Path,
    fresh: Workspace,
    before: Built,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So many calls on files of one video fail; the next build has what a calm one has."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    for each in range(count):
        (tokens / str(each)).touch()
    wanted = {"LD_PRELOAD": shim, "FAIL_BELOW": fresh.output / fresh.place("dog")}
    wanted |= {"FAIL_TOKENS": tokens, "FAIL_ERRNO": number, "FAIL_CALL": call}
    with monkeypatch.context() as patch:
        for name, value in wanted.items():
            patch.setenv(name, str(value))
        outcome = fresh.snakemake("manifest")
    assert len(list(tokens.iterdir())) < count
    ends_well(outcome, fresh, number)
    for record in fresh.output.glob("??/*/*.json"):
        assert json.loads(record.read_text())["status"] in ("ok", "none", "failed")
    fresh.build()
    assert fresh.digests() == before
