"""Runs whose disk is full: each time it is said where, and the same command goes on as if not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from spark_trainer.errors import MACHINE_STATUS, MachineError, of_machine, told
from spark_trainer.runs.spec import RunSpec
from spark_trainer.system import gpu
from spark_trainer.train import encode
from tests.mounted import small

from .conftest import metrics, train, write_run
from .test_diffusion import Make, folders, manifest
from .test_diffusion import make as make_film
from .test_stop import start

__all__ = ["folders", "make_film", "manifest"]  # fixtures

PAGE, GROWTH = 4096, 1.6  # of the room that a call has more than the one before it


def refused(call: Callable[[], object], where: Path) -> str:
    """Return what is said where the disk refuses; nothing where it takes all."""
    trouble: Exception | None = None
    try:
        call()
    except (OSError, MachineError) as error:
        trouble = error
    if trouble is None:
        return ""
    assert of_machine(trouble)
    assert str(where) in told(trouble)
    return told(trouble)


def weights(made: RunSpec) -> dict[str, list[Any]]:
    """What `final/` holds."""
    [path] = made.folder.final.glob("*.safetensors")
    return {name: value.tolist() for name, value in load_file(path).items()}


def test_each_call_has_more_room_and_the_last_leaves_what_a_calm_one_does(
    make: Any, tmp_path: Path
) -> None:
    """What is refused: metrics, events, samples, checkpoints, and the merged weights."""
    settings = {"finetune": "lora", "lora": {"rank": 2}, "final": "best", "keep_checkpoints": 1}
    calm = make("calm", **settings)
    train(write_run(calm))
    said, room = list[str](), float(PAGE)
    with small(tmp_path / "disk") as disk:
        made = make("full", output_dir=str(disk.folder), **settings)
        folder = write_run(made)
        disk.fill(int(room))
        while text := refused(lambda: train(folder), folder):
            said.append(text)
            room *= GROWTH
            disk.fill(int(room))
        assert metrics(folder) == metrics(calm.folder.path)
        assert weights(made) == weights(calm)
        assert not [*folder.glob(".*"), *folder.rglob("*.tmp")]
    print("\n".join(said))
    assert any("step_00000002: the checkpoint can't be written: " in text for text in said)
    assert any("/final: the weights can't be written: " in text for text in said)


@pytest.mark.long
@pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")
def test_a_disk_that_takes_no_events_ends_the_command_without_a_trace(
    make: Any, tmp_path: Path
) -> None:
    made = make("full")
    events = made.folder.events
    events.parent.mkdir(parents=True)
    with small(events) as disk:
        disk.fill(PAGE)
        (events / "of others").write_bytes(bytes(PAGE))
        process = start(made, tmp_path / "state")
        _, said = process.communicate()
    assert process.returncode == MACHINE_STATUS
    assert f"No space left on device: {events}/events" in said.strip().splitlines()[-1]
    assert "Traceback" not in said


def test_a_full_disk_rejects_no_clip(make_film: Make, tmp_path: Path) -> None:
    """There is room for the record of a clip, and none for the clip."""
    made, said, room = make_film("wan_animate"), list[str](), float(PAGE)
    data = Path(made.settings.manifest_path or "")
    with small(tmp_path / "state") as disk:

        def call() -> None:
            assert encode.run(made, data, granted_gpus=0, threads=1).keys() <= {"current", "ok"}

        disk.fill(int(room))
        while text := refused(call, made.encoded):
            said.append(text)
            room *= GROWTH
            disk.fill(int(room))
        records = [path.read_text() for path in made.encoded.glob("??/*/*.json")]
        assert len(records) == 6
        assert all('"status":"ok"' in record for record in records)
        assert not [*made.encoded.rglob("*.tmp")]
    assert len(said) > 1
