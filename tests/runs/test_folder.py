"""What is found in and around run folders."""

from pathlib import Path

from spark_trainer.runs import folder
from spark_trainer.runs.folder import RunFolder


def test_checkpoints_are_listed_by_their_update(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for name in ("step_00000010", "step_00000002", "broken_step_00000004", ".writing", "step_3"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    saved = run.saved_checkpoints()
    assert saved == [run.checkpoint(2), run.checkpoint(10)]
    assert [folder.step_of(path) for path in saved] == [2, 10]


def test_run_folders_are_those_that_hold_a_launched_run(tmp_path: Path) -> None:
    for name in ("slow-1a2b3c4d", "fast-5e6f7a8b", "logs"):
        (tmp_path / name).mkdir()
    for name in ("slow-1a2b3c4d", "fast-5e6f7a8b"):
        (tmp_path / name / "run.json").touch()
    assert [run.name for run in folder.below(tmp_path)] == ["fast-5e6f7a8b", "slow-1a2b3c4d"]
    assert folder.below(tmp_path / "nowhere") == []
    assert not RunFolder(tmp_path / "logs").exists()
