"""Checkpoints: damage of every kind is found before anything is loaded, and nothing runs code."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spark_trainer.errors import MachineError
from spark_trainer.runs.folder import RunFolder
from spark_trainer.train import checkpoints, nest

from .conftest import digest_again, dropping, metrics, train, write_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> dict[str, Path]:
    """Where the run that is damaged was trained; filled by the first test that asks."""
    return {}


@pytest.fixture
def run(make: Any, trained: dict[str, Path], tmp_path_factory: Any, tmp_path: Path) -> Path:
    """A copy of a run of six updates with checkpoints of 2, 4 and 6, not finished."""
    if not trained:
        folder = write_run(make(eval_steps=2, keep_checkpoints=3, ema_decay=0.9))
        train(folder)
        (folder / "trained.json").unlink()
        trained["run"] = shutil.copytree(folder, tmp_path_factory.mktemp("trained") / "run")
    return shutil.copytree(trained["run"], tmp_path / "copy")


def id_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["seal"])


FILES = [
    "average.safetensors",
    "digests.json",
    "optimizer.safetensors",
    "random_0.safetensors",
    "step.json",
    "trainable.safetensors",
]


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def loop_of_links(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DAMAGES: list[Callable[[Path], object]] = [
    *(empty, cut, flip, Path.unlink, loop_of_links, folder_instead, pipe)
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_named_and_the_one_before_taken(
    run: Path, name: str, damage: Callable[[Path], object]
) -> None:
    folder, said = RunFolder(run), []
    damage(folder.checkpoint(6) / name)
    assert checkpoints.newest(folder, id_of(run), said.append) == folder.checkpoint(4)
    [message] = said
    assert "step_00000006 is broken and left out: " in message
    assert name == "digests.json" or name in message  # whose own bytes may speak of others
    names = [path.name for path in folder.saved_checkpoints()]
    assert names == ["step_00000002", "step_00000004"]
    assert (run / "checkpoints/broken_step_00000006").exists()


def otherwise(checkpoint: Path, kind: str) -> None:
    match kind:
        case "a strange file":
            (checkpoint / "custom_checkpoint_0.pkl").write_bytes(b"x")
        case "another update":
            shutil.rmtree(checkpoint)
            shutil.copytree(checkpoint.with_name("step_00000002"), checkpoint)
        case "another run":
            told = json.loads((checkpoint / "digests.json").read_text())
            (checkpoint / "digests.json").write_text(json.dumps(told | {"run": "0badf00d"}))
        case "a wrong step":
            saved = json.loads((checkpoint / "step.json").read_text())
            (checkpoint / "step.json").write_text(
                json.dumps(saved | {"step": 5}, separators=(",", ":"), sort_keys=True) + "\n"
            )
        case "a link to itself":
            shutil.rmtree(checkpoint)
            checkpoint.symlink_to(checkpoint.name)
        case "a file":
            shutil.rmtree(checkpoint)
            checkpoint.write_text("")
        case "no digests":  # as one of an older version
            (checkpoint / "digests.json").unlink()
        case "a list for digests":
            (checkpoint / "digests.json").write_text("[]")
        case "nothing inside":
            shutil.rmtree(checkpoint)
            checkpoint.mkdir()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("a strange file", "custom_checkpoint_0.pkl does not belong to it"),
        ("another update", "it is of update 2"),
        ("another run", "it is of another run, 0badf00d"),
        ("a wrong step", "step.json has other bytes than were written"),
        ("a link to itself", "Too many levels of symbolic links"),
        ("a file", "Not a directory"),
        ("no digests", "no digests.json, which is written last"),
        ("a list for digests", "digests.json is damaged"),
        ("nothing inside", "no digests.json"),
    ],
)
def test_a_folder_that_is_no_checkpoint_of_the_run(run: Path, kind: str, reason: str) -> None:
    folder, said = RunFolder(run), []
    otherwise(folder.checkpoint(6), kind)
    assert checkpoints.newest(folder, id_of(run), said.append) == folder.checkpoint(4)
    assert reason in said[0]


def test_the_run_goes_on_from_the_one_before_and_keeps_the_broken_one(run: Path) -> None:
    calm = metrics(run)
    folder = run / "checkpoints"
    cut(RunFolder(run).checkpoint(6) / "optimizer.safetensors")
    (folder / checkpoints.WRITING).mkdir()
    (folder / checkpoints.WRITING / "half").write_bytes(b"x" * 1000)
    (folder / "step_00000005.tmp").mkdir()
    flip(run / "metrics.jsonl")  # and the disk ate some of what is made again
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in calm if line["step"] < 6) + '{"step": 6, "lo'
    )
    assert train(run) == calm
    assert sorted(path.name for path in folder.iterdir()) == [
        "broken_step_00000006",
        *("step_00000002", "step_00000004", "step_00000005.tmp", "step_00000006"),
    ]
    assert "step_00000006 is broken" in (run / "train.log").read_text()


def test_without_a_whole_one_it_begins_anew_and_no_line_stays_twice(run: Path) -> None:
    calm = metrics(run)
    for step in (2, 4, 6):
        flip(RunFolder(run).checkpoint(step) / "trainable.safetensors")
    assert train(run) == calm


def test_a_kill_before_the_first_checkpoint_leaves_nothing_twice(run: Path) -> None:
    calm = metrics(run)
    shutil.rmtree(run / "checkpoints")
    assert train(run) == calm


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["EVIL"],)


def test_nothing_in_a_checkpoint_runs_code(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pickles under every name that ever held one, the digests made to fit."""
    monkeypatch.setenv("EVIL", str(tmp_path / "evil"))
    last = RunFolder(run).checkpoint(6)
    names = ["custom_checkpoint_0.pkl", "optimizer.bin", "scheduler.bin", "random_states_0.pkl"]
    told = json.loads((last / "digests.json").read_text())
    for name in names:
        (last / name).write_bytes(pickle.dumps(Evil()))
        told["files"][name] = {}
    (last / "digests.json").write_text(json.dumps(told))
    digest_again(last)
    assert train(run)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("safetensors")])
def test_a_pickle_in_place_of_tensors_runs_nothing(
    run: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVIL", str(tmp_path / "evil"))
    last = RunFolder(run).checkpoint(6)
    torch.save(Evil(), last / name)
    digest_again(last)
    with pytest.raises(Exception, match=r"(?i)header|safetensor|invalid"):
        train(run)
    assert not (tmp_path / "evil").exists()


def test_dropout_goes_on_where_it_was(make: Any, checkpoint: Path, tmp_path: Path) -> None:
    """Workers are started anew, and FLOPs counted again: neither may draw from its generator."""
    settings = {"model_name": str(dropping(checkpoint, tmp_path)), "peak_tflops": 1.0}
    settings |= {"num_workers": 1, "eval_steps": 2, "keep_checkpoints": 3}
    folder = write_run(make(**settings))
    calm = train(folder)
    for step in (4, 6):
        shutil.rmtree(RunFolder(folder).checkpoint(step))
    for one, other in zip(calm, train(folder), strict=True):
        assert {k: v for k, v in one.items() if k != "mfu"} == {
            k: v for k, v in other.items() if k != "mfu"
        }


def test_a_disk_that_is_full_keeps_the_one_before(run: Path, monkeypatch: Any) -> None:
    """As at a limit of a file's size: the system itself refuses the bytes."""
    import resource
    import signal

    folder = run / "checkpoints"
    shutil.rmtree(RunFolder(run).checkpoint(6))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(MachineError, match=r"step_00000006: the checkpoint can't be written"):
            train(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.name for path in sorted(folder.iterdir())] == ["step_00000002", "step_00000004"]


def test_a_nest_keeps_every_kind(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    value = {
        "numbers": {0: shared[:3], 1: shared[3:], "again": shared},
        "plain": [1, 2.5, None, True, "text", (3, (4,))],
        "kinds": [torch.ones(2, dtype=torch.bfloat16), torch.zeros(()), torch.empty(0)],
    }
    nest.Snapshot.of(value).write(tmp_path / "nest.safetensors")
    found = nest.load(tmp_path / "nest.safetensors")
    assert found["plain"] == value["plain"]
    assert list(found["numbers"]) == [0, 1, "again"]
    assert found["numbers"][1].equal(shared[3:])
    assert [one.dtype for one in found["kinds"]] == [torch.bfloat16, torch.float32, torch.float32]
    with pytest.raises(TypeError, match="a checkpoint can't hold pathlib"):
        nest.Snapshot.of({"path": tmp_path})
