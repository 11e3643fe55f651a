"""What run folders and logs show of a video goes; what they show of others stays."""

import json
from pathlib import Path

import pytest

from spark_trainer.data.forgotten import Tombstone
from spark_trainer.runs import folder
from spark_trainer.runs.folder import RunFolder
from spark_trainer.store import forget_runs

GONE, OTHER = "ab" * 32, "cd" * 32
KEPT = Tombstone(GONE, "2026-11-27T00:00:00+00:00", "ada", "")
LOG = f"""2026-11-27 08:00:00,000 INFO train
2026-11-27 08:00:01,000 ERROR video {GONE}
Traceback (most recent call last):
  File "a.py", line 1, in b
ValueError: secret
2026-11-27 08:00:02,000 ERROR video {OTHER}
Traceback (most recent call last):
  File "a.py", line 1, in b
ValueError: known
2026-11-27 08:00:03,000 INFO sample at step 1, {GONE[:12]}: 'secret'

    videos  2 contents
"""


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def lines(*videos: str) -> str:
    return "".join(json.dumps({"id": video, "meta": {}}) + "\n" for video in videos)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "runs/talks-1a2b3c4d")
    write(run.run_file, {"settings": {"split": {}}})
    write(run.manifest, lines(GONE, OTHER))
    write(run.rejected, "")
    write(run.lineage, {"videos": {GONE: {"source_path": "a.mp4"}, OTHER: {}}})
    return run


def cleaned(run: RunFolder) -> None:
    forget_runs.clean(run, GONE, KEPT)
    texts = [path.read_text() for path in run.path.rglob("*") if path.is_file()]
    assert "secret" not in "".join(texts)
    said = [path.name for path in run.path.rglob("*") if path.is_file() and holds(path)]
    assert said == ["lineage.json"] * run.lineage.is_file()


def holds(path: Path) -> bool:
    return GONE[:12] in path.name or GONE[:12] in path.read_text()


def test_how_whole_files_are_heard(run: RunFolder) -> None:
    files = [{"video": GONE, "text": "secret"}, {"video": OTHER, "text": "known"}]
    part = {"before": {"wer": 50.0}, "after": {"wer": 10.0}, "files": files}
    write(run.whole_files, {"held_out": part})
    cleaned(run)
    assert json.loads(run.whole_files.read_text()) == {"held_out": part | {"files": files[1:]}}


def test_the_traces_of_its_errors(run: RunFolder) -> None:
    write(run.log, LOG)
    cleaned(run)
    left = run.log.read_text()
    assert "ValueError: known" in left
    assert left.count("Traceback") == 1
    assert left.endswith("\n\n    videos  2 contents\n")


def test_an_update_in_which_training_was_killed(run: RunFolder) -> None:
    """There are files, and nothing lists them; a sheet shows several videos."""
    folder = run.sample(1).with_suffix("")
    write(folder / f"{GONE}.mp4", "secret")
    write(folder / "sheet.png", "secret")
    write(run.events / "events", "secret")
    write(run.trackers / "wandb/table.json", "secret")
    cleaned(run)


def test_a_run_that_refused_it(run: RunFolder) -> None:
    write(run.manifest, lines(OTHER))
    write(run.rejected, lines(GONE))
    write(run.lineage, {"videos": {OTHER: {}}})
    assert forget_runs.showing([run], GONE) == [run]
    assert forget_runs.showing([run], "ef" * 32) == []
    before = run.lineage.read_text()
    forget_runs.clean(run, GONE, KEPT)
    assert not run.rejected.read_text()
    assert run.lineage.read_text() == before


def test_a_run_that_was_never_launched(run: RunFolder) -> None:
    """Its data is gathered before it is checked."""
    root = run.path.parent
    run.run_file.unlink()
    run.lineage.unlink()
    assert folder.begun(root) == []  # any folder may hold a manifest
    run.holder.touch()
    assert folder.begun(root) == [run]
    assert folder.below(root) == []
    assert forget_runs.showing([run], GONE) == [run]
    cleaned(run)
    assert run.manifest.read_text() == lines(OTHER)


def test_logs_of_commands(tmp_path: Path) -> None:
    log = write(tmp_path / "20261127-080000/spark_trainer.log", LOG)
    own = write(log.parent / "jobs/1.json", {"message": f"transcript {GONE[:12]}: secret"})
    other = write(log.parent / "jobs/2.json", {"message": f"transcript {OTHER}"})
    forget_runs.clean_logs(tmp_path, GONE)
    assert not own.exists()
    assert other.exists()
    assert "secret" not in log.read_text()
    assert "ValueError: known" in log.read_text()
