"""Which of the jobs in the queue an earlier call left behind; `squeue` is a stand-in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from spark_trainer.errors import MachineError, UserError
from spark_trainer.system import slurm
from spark_trainer.system.slurm import Job

ID = "9721a6e1-1989-4621-bfd3-57b3bb3adf50"


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install a `squeue` that runs this script."""

    def install(script: str) -> None:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "squeue").chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.01)
    return install


def test_only_this_folders_and_only_snakemakes(
    queue: Callable[[str], None], tmp_path: Path
) -> None:
    queue(
        f"echo '1|films_{ID}|rule_frames_shard_wildcards_b.1_2|{tmp_path}'\n"
        f"echo '2|films_{ID}|rule_frames_shard_wildcards_b.1_2|/elsewhere'\n"
        f"echo '3|by-hand|(null)|{tmp_path}'"
    )
    assert slurm.left(tmp_path) == [Job("1", "rule_frames_shard_wildcards_b.1_2")]


def test_waits_until_they_have_ended(queue: Callable[[str], None], tmp_path: Path) -> None:
    (tmp_path / "queued").touch()
    line = f"7|films_{ID}|rule_train_run|{tmp_path}"
    queue(f"test -e '{tmp_path}/queued' && rm '{tmp_path}/queued' && echo '{line}'; true")
    slurm.wait(tmp_path)
    assert not (tmp_path / "queued").exists()


def test_a_silent_slurm_is_an_error(queue: Callable[[str], None], tmp_path: Path) -> None:
    queue("echo 'no config' >&2; echo 'no controller' >&2; exit 1")
    with pytest.raises(MachineError, match=r"^squeue: no config no controller$"):
        slurm.left(tmp_path)


def test_no_slurm_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no squeue on the PATH"):
        slurm.left(tmp_path)
