"""A model learns from answers that a server draws: as from its own, and not from any other."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from spark_trainer.errors import MachineError, UserError
from spark_trainer.methods.watch import ApartError
from spark_trainer.rollouts import drawing
from spark_trainer.rollouts.vllm import RolloutError
from spark_trainer.runs.spec import RunSpec
from spark_trainer.system import chat_server
from spark_trainer.train import setup
from tests.rollouts import serving
from tests.rollouts.serving import Running, Serving
from tests.train.conftest import metrics, train, write_run

from .test_grpo import (
    CLOCK,
    Lines,
    _fresh_accelerator,
    checkpoint,
    close,
    data,
    make,
    manifest,
    qwen,
    rft,
    trained,
    updates,
)

__all__ = ["_fresh_accelerator", "checkpoint", "data", "make", "manifest", "qwen", "rft"]
APART = {"sampling/logp_difference", "sampling/logp_difference_max", "sampling/importance_ratio"}
Start = Callable[..., tuple[Running, Serving]]


@pytest.fixture(autouse=True)
def without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without an answer is not sent again."""
    monkeypatch.setattr(chat_server, "PAUSES_S", ())


@pytest.fixture
def start(qwen: Path) -> Iterator[Start]:
    """Start a server of the run's model."""
    running: list[Running] = []

    def start(**settings: Any) -> tuple[Running, Serving]:
        served = Serving(str(qwen), **settings)
        running.append(Running(served))
        return running[-1], served

    yield start
    for one in running:
        one.stop()


def by_server(rft: Any, url: str, *, run: dict[str, Any] | None = None, **settings: Any) -> RunSpec:
    # As long as it can be without tries after the first ones (vllm.LATER_PAUSE_S).
    vllm = {"server_url": url, "server_timeout_s": 29.0} | settings.pop("vllm", {})
    made: RunSpec = rft(vllm=vllm, run={"max_steps": 3} | (run or {}), **settings)
    return made


def seeds(served: Serving) -> list[int]:
    return [told["seed"] for path, told in served.requests if "seed" in told]


@pytest.mark.parametrize("finetune", ["full", "lora"])
def test_a_server_with_the_same_weights_teaches_the_same(
    rft: Any, start: Start, monkeypatch: pytest.MonkeyPatch, finetune: str
) -> None:
    """To rounding; in process the numbers of the same seeds draw."""

    def by_seeds(keys: list[str], length: int) -> torch.Tensor:
        return torch.stack([serving.numbers(drawing.seed(key), length) for key in keys])

    running, served = start()
    made = by_server(rft, running.url, name="served", run={"finetune": finetune})
    lines = trained(made)
    monkeypatch.setattr(drawing, "numbers", by_seeds)
    own = trained(rft(name="own", run={"max_steps": 3, "finetune": finetune}))
    for line in updates(lines):
        assert line["sampling/logp_difference_max"] < 1e-5
        assert line["sampling/importance_ratio"] == pytest.approx(1, abs=1e-5)
    close(without(own, APART), without(lines, APART))
    drawn = seeds(served)
    assert len(drawn) == 3 * 4 * 4 + 3 * 4
    assert len({*drawn}) == 3 * 4 * 4 + 4  # a group that is shown is drawn by the same each time
    paths = [path for path, _ in served.requests]
    if finetune == "lora":
        assert paths.count("/v1/load_lora_adapter") == 1 + 4  # asked whether it takes any
        assert paths.count("/v1/unload_lora_adapter") == 3
        assert len(served.adapters) == 1
    else:
        assert paths.count("/collective_rpc") == 4
        assert served.version.startswith("spark-")
    kept = [path.name for path in (made.folder.path.parent / ".weights").iterdir()]
    assert len([name for name in kept if not name.endswith("lock")]) == (finetune == "lora")


def without(lines: Lines, names: set[str]) -> Lines:
    return [{name: value for name, value in line.items() if name not in names} for line in lines]


def test_a_server_that_lags_is_corrected_for_and_too_far_away_stops(rft: Any, start: Start) -> None:
    """By weights of an update before."""
    running, _ = start(lags=True)
    fast = {"learning_rate": 1e-2, "finetune": "lora"}
    first, *later = updates(trained(by_server(rft, running.url, run=fast)))
    assert first["sampling/logp_difference_max"] < 1e-5
    for line in later:
        assert 1e-4 < line["sampling/logp_difference"] < line["sampling/logp_difference_max"]
        assert abs(line["sampling/importance_ratio"] - 1) > 1e-6
    strict = {"max_logp_difference": 1e-4}
    made = by_server(rft, running.url, name="strict", run=fast, vllm=strict)
    with pytest.raises(ApartError, match=r"max_logp_difference: .* more than 0\.0001"):
        train(write_run(made))


def test_a_run_whose_server_dies_goes_on_with_another_as_if_it_had_not(
    rft: Any, start: Start
) -> None:
    run = {"finetune": "lora", "checkpoint_steps": 1, "keep_checkpoints": 9}
    running, _ = start()
    expected = trained(by_server(rft, running.url, name="whole", run=run))

    running, served = start()
    made = by_server(rft, running.url, run=run)
    seen = 2 * 4 * 4 + 2 * 4  # answers of two updates, and of what is shown before and after

    def dies(said: dict[str, Any]) -> dict[str, Any]:
        if len(seeds(served)) > seen + 3:
            served.broken["/v1/chat/completions"] = lambda _: (503, {"error": "engine died"})
            served.broken["/v1/models"] = lambda _: (503, {"error": "engine died"})
        return said

    served.changed = dies
    folder = write_run(made)
    with pytest.raises(MachineError, match=r"train\.rft\.vllm\.server_url: .*503 .*engine died"):
        train(folder)
    served.broken, served.changed, served.adapters = {}, None, {}
    train(folder)
    lines = without(metrics(folder), CLOCK)
    assert lines == expected


@pytest.mark.parametrize(
    ("settings", "finetune", "message"),
    [
        ({"name": "some/other", "path": "/elsewhere"}, "lora", r"\(it serves some/other\)"),
        ({"started": False}, "lora", r"404 .*VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        ({"started": False}, "full", r"404 .*VLLM_SERVER_DEV_MODE=1"),
        ({"reply": (401, {"error": "no key"})}, "lora", r"401 .*no key"),
        ({"reply": (200, b"<html>")}, "lora", r"expected vLLM, which answers in JSON"),
        ({"reply": (200, {"data": 7})}, "lora", r"expected vLLM, which lists its models"),
        ({"reply": (503, {"error": "loading"})}, "lora", r"503 .*loading"),
        ({"stopped": True}, "lora", r"refused"),
    ],
    ids=str,
)
def test_a_server_that_does_not_fit_stops_before_weights_are_loaded(
    rft: Any,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    finetune: str,
    message: str,
) -> None:
    monkeypatch.setattr(setup, "model", lambda *_: pytest.fail("weights are loaded"))
    reply, path, stopped = (settings.pop(name, None) for name in ("reply", "path", "stopped"))
    running, served = start(**settings)
    served.model_path = path or served.model_path
    if reply:
        served.broken["/v1/models"] = lambda _: reply
    if stopped:
        running.stop()
    made = by_server(rft, running.url, run={"finetune": finetune})
    machine = stopped or "503" in message
    with pytest.raises(MachineError if machine else UserError, match=message):
        setup.prepare(write_run(made))


def test_an_adapter_that_a_server_can_not_take_is_told(rft: Any, start: Start) -> None:
    running, served = start()
    rank = serving.refused(500, "LoRA rank 16 is greater than max_lora_rank 8.")

    def answer(told: dict[str, Any]) -> serving.Reply:
        return rank if told["lora_name"] else serving.refused(400, "must be provided")

    served.broken["/v1/load_lora_adapter"] = answer
    made = by_server(rft, running.url, run={"finetune": "lora"})
    with pytest.raises(RolloutError, match=r"500 .*rank 16 .*see --max-lora-rank"):
        train(write_run(made))
    shutil.rmtree(made.folder.path)
