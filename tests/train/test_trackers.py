"""Accelerate's trackers are told what a run tells, and a run does not depend on them."""

import json
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from PIL import Image

from spark_trainer.config import Run
from spark_trainer.data.files import read_json
from spark_trainer.errors import MachineError, UserError
from spark_trainer.families.kinds.generated import GeneratedText
from spark_trainer.runs.folder import RunFolder
from spark_trainer.train import trackers
from spark_trainer.train.tracking import Tracker

from .conftest import train, write_run

NAMES = sorted(trackers.PACKAGES)


class Notebook(GeneralTracker):
    """A tracker of a user's own, in the place of Weights & Biases; it writes lines of a file."""

    name = "wandb"
    requires_logging_directory = False
    failing: ClassVar[Exception | None] = None
    hanging_s: ClassVar[float] = 0.0

    def __init__(self, project: str, *, dir: str, **keys: Any) -> None:  # noqa: A002
        super().__init__()
        self.path = Path(dir) / "lines.jsonl"
        self.begun = {"project": project, "name": keys["name"], "id": keys["id"]}

    @property
    def tracker(self) -> Path:
        return self.path

    def _note(self, **said: Any) -> None:
        time.sleep(self.hanging_s)
        if self.failing:
            raise self.failing
        with open(self.path, "a") as file:
            file.write(json.dumps(said) + "\n")

    def start(self) -> None:
        self._note(begun=self.begun)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._note(settings=values)

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self._note(step=step, values=values)

    def log_table(self, table_name: str, columns: Any, data: Any, step: int) -> None:
        self._note(step=step, columns=columns, data=data)

    def log_images(self, values: dict[str, Any], step: int) -> None:
        [image] = values["sheet"]
        self._note(step=step, size=image.size)

    def finish(self) -> None:
        self._note(finished=True)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Notebook]]:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Notebook)
    yield Notebook
    Notebook.failing, Notebook.hanging_s = None, 0.0


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (RunFolder(folder).trackers / "lines.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_tells_a_tracker_what_it_tells_us(make: Any, notebook: type[Notebook]) -> None:
    made = make(trackers=("wandb",), tracker_project="films")
    assert made.run_id == make().run_id
    folder = write_run(made)
    numbers = train(folder)
    told = lines(folder)
    name = RunFolder(folder).name
    assert told[0]["begun"] == {"project": "films", "name": name, "id": name}
    assert told[1]["settings"]["run"] == name
    assert told[1]["settings"]["split.validation"] == 0.25
    assert [(one["step"], one["values"].get("loss")) for one in told if "values" in one] == [
        (one["step"], one.get("loss")) for one in numbers
    ]
    [first, _, last] = [one for one in told if "columns" in one]
    assert first["columns"] == ["video", "caption", "generated"]
    assert last["columns"] in (first["columns"], [*first["columns"], "generated before"])
    assert {tuple(one["size"]) for one in told if "size" in one} == {(32, 32)}
    assert told[-1] == {"finished": True}
    assert read_json(RunFolder(folder).summary)["untold"] == {}


def test_a_tracker_that_fails_ends_no_training(
    make: Any, notebook: type[Notebook], caplog: pytest.LogCaptureFixture
) -> None:
    made = make(trackers=("wandb",))
    run = RunFolder(write_run(made))
    [outside] = trackers.begin(run, made.settings, -1)
    tracker = Tracker(run, -1, made.settings, [outside])
    tracker.write(1, {"loss": 1.0})
    notebook.failing = OSError(28, "No space left on device")
    for step in range(2, 8):
        tracker.write(step, {"loss": 1.0})
    tracker.close()
    assert tracker.untold == {"wandb": 6}
    assert len(run.metrics.read_text().splitlines()) == 7
    warned = [one.getMessage() for one in caplog.records if "wandb" in one.getMessage()]
    assert warned == [
        *["train.trackers: wandb: OSError: [Errno 28] No space left on device"] * 2,
        "train.trackers: wandb: OSError: [Errno 28] No space left on device; it is told nothing "
        "more",
        "train.trackers: wandb could not be told 6 things, which the run folder has",
    ]


def test_a_tracker_that_hangs_ends_no_training(
    make: Any,
    notebook: type[Notebook],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = make(trackers=("wandb",))
    run = RunFolder(write_run(made))
    [outside] = trackers.begin(run, made.settings, -1)
    monkeypatch.setattr(trackers, "WAIT_S", 0.1)
    notebook.hanging_s = 5.0
    begun = time.monotonic()
    for step in range(1, 9):
        outside.numbers(step, {"loss": 1.0})
    outside.close()
    assert time.monotonic() - begun < 2
    assert outside.untold == 8
    assert "wandb: MachineError: not done after 0.1 s; it is told nothing more" in caplog.text
    monkeypatch.setattr(trackers, "LAST_WAIT_S", 0.1)
    with pytest.raises(MachineError, match=r"wandb can't be started: .*not done after"):
        trackers.begin(run, made.settings, -1)


def test_a_tracker_that_cannot_start_stops_a_new_run_alone(
    make: Any, notebook: type[Notebook]
) -> None:
    made = make(trackers=("wandb",))
    run = RunFolder(write_run(made))
    notebook.failing = RuntimeError("No API key")
    with pytest.raises(UserError, match=r"wandb can't be started: RuntimeError: No API key"):
        trackers.begin(run, made.settings, -1)
    notebook.failing = ConnectionRefusedError(111, "Connection refused")
    with pytest.raises(MachineError, match="Connection refused"):
        trackers.begin(run, made.settings, -1)
    [outside] = trackers.begin(run, made.settings, 4)
    outside.numbers(5, {"loss": 1.0})
    assert outside.untold == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_real_ones_go_on_with_the_same_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at update 6 and gone on from 4; all that they write is in the run folder."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for variable in ("TRACKIO_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(variable, raising=False)
    PartialState()
    run, settings = RunFolder(tmp_path / "slow-1a2b3c4d"), Run(trackers=(name,))
    run.path.mkdir()
    shown = GeneratedText("ab" * 32, "A dog.", "A cat.", [Image.new("RGB", (64, 48))] * 2)
    for resumed, last in ((-1, 7), (4, 9)):
        others = trackers.begin(run, settings, resumed)
        tracker = Tracker(run, resumed, settings, others)
        for step in range(resumed + 1, last):
            tracker.write(step, {"loss": 1 / (1 + step), "odd": float("nan")})
        tracker.samples(last - 1, [shown])
        tracker.close()
        assert tracker.untold == {}
    expected, last = {step: 1 / (1 + step) for step in range(9)}, time.monotonic() + 20
    while READ[name](run) != expected and time.monotonic() < last:
        time.sleep(0.1)  # programs beside this one write the files
    assert READ[name](run) == expected
    assert {path.name for path in tmp_path.iterdir()} == {run.name}


def _mlflow(run: RunFolder) -> dict[int, float]:
    from mlflow import MlflowClient

    client = MlflowClient((run.trackers / "mlruns").as_uri())
    [project] = client.search_experiments(filter_string="name = 'spark-trainer'")
    [told] = client.search_runs([project.experiment_id])
    assert told.data.params["split.validation"] == str(Run().split.validation)
    names = {one.path for one in client.list_artifacts(told.info.run_id, "samples")}
    assert names == {"samples/step_00000006.json", "samples/step_00000008.json"}
    history = client.get_metric_history(told.info.run_id, "loss")
    return {one.step: one.value for one in history}


def _trackio(run: RunFolder) -> dict[int, float]:
    import sqlite3

    with sqlite3.connect(run.trackers / "trackio/spark-trainer.db") as opened:
        rows = opened.execute("select run_name, step, metrics from metrics order by id").fetchall()
    assert {name for name, _, _ in rows} == {run.name}
    return {step: json.loads(told)["loss"] for _, step, told in rows if "loss" in json.loads(told)}


def _wandb(run: RunFolder) -> dict[int, float]:
    from wandb.proto.wandb_internal_pb2 import Record

    found = {}
    parts = sorted(run.trackers.glob(f"wandb/offline-run-*-{run.name}/run-{run.name}.wandb"))
    assert len(parts) == 2
    for part in parts:
        for data in _logged(part.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                assert record.run.run_id == run.name
            told = {
                one.key or ".".join(one.nested_key): json.loads(one.value_json)
                for one in record.history.item
            }
            if "loss" in told:
                found[told["_step"]] = told["loss"]
    return found


def _logged(log: bytes) -> Iterator[bytes]:
    """The records of a file of Weights & Biases, which is a log of LevelDB's behind a header."""
    at, block, header, whole = 7, 32768, 7, b""
    while at + header <= len(log):
        if block - at % block < header:
            at += block - at % block
            continue
        size, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        whole += log[at + header : at + header + size]
        at += header + size
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


READ = {"mlflow": _mlflow, "trackio": _trackio, "wandb": _wandb}
