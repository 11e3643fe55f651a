"""What a server says is learnt as it was drawn, or told to be something else."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from spark_trainer import families
from spark_trainer.errors import MachineError
from spark_trainer.families.kinds import towers
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.rollouts import reading, vllm
from spark_trainer.rollouts.base import Seen
from spark_trainer.rollouts.in_process import InProcess
from spark_trainer.rollouts.served import Served
from spark_trainer.rollouts.vllm import RolloutError
from spark_trainer.system import chat_server
from tests.families import tiny

from .serving import Reply, Running, Serving, refused
from .test_in_process import CLIPS, LONGEST, run

Said = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Served, Any]]:
    folder = tiny.qwen2_vl(tmp_path_factory.mktemp("qwen"))
    serving = Serving(str(folder))
    running = Running(serving)
    asked = run(str(folder), output_dir=str(folder.parent / "runs"))
    # As long as it can be without tries after the first ones (vllm.LATER_PAUSE_S).
    told = {"server_url": running.url, "server_timeout_s": 29.0}
    rft = asked.rft.model_copy(update={"vllm": asked.rft.vllm.model_copy(update=told)})
    asked = asked.model_copy(update={"rft": rft})
    family = families.find(str(folder))
    assert isinstance(family, ChatModel)
    loaded = family.load(str(folder), LoadOptions.of(asked, family.mostly_frozen, "cpu"))
    family.let_learn(loaded.model, asked)
    loaded.model.eval()
    yield serving, Served(family, loaded, asked), loaded.model
    running.stop()


@pytest.fixture(autouse=True)
def without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without an answer is not sent again."""
    monkeypatch.setattr(chat_server, "PAUSES_S", ())


@pytest.fixture
def served(made: tuple[Serving, Served, Any]) -> Iterator[Serving]:
    serving, _, _ = made
    yield serving
    serving.broken, serving.changed = {}, None


@pytest.fixture
def draw(made: tuple[Serving, Served, Any], served: Serving) -> Callable[..., Any]:
    _, rollout, model = made

    def draw(clips: Any = CLIPS[:1], update: int = 1, count: int = 2) -> Any:
        with torch.no_grad():
            return rollout.draw(model, seen(rollout, clips), update, range(count))

    return draw


def seen(rollout: Served, clips: Any) -> list[Seen]:
    asked = [reading.question(rollout.family, rollout.loaded, one, sends=True) for one in clips]
    model = rollout.loaded.model
    return [Seen(one, towers.features(model, one.encoded.vision)) for one in asked]


def test_the_server_sees_the_frames_and_the_times_and_says_what_would_be_said(
    made: tuple[Serving, Served, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy, so that nothing hangs on who draws; where the hub must not be asked too."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    _, rollout, model = made
    with torch.no_grad():
        shown = seen(rollout, CLIPS)
        own = InProcess(rollout.family, rollout.loaded, rollout.run).greedy(model, shown)
        assert [one.ids for one in rollout.greedy(model, shown)] == [one.ids for one in own]


def test_answers_depend_on_the_seed_alone(draw: Callable[..., Any], served: Serving) -> None:
    both = draw(CLIPS[:2], count=3)
    [alone] = draw(CLIPS[1:2], count=3)
    assert alone == both[1]
    assert draw(CLIPS[:2], update=2, count=3) != both
    told = [request for path, request in served.requests if path == "/v1/chat/completions"]
    assert all(0 <= one["seed"] < 2**63 for one in told if "seed" in one)
    assert all(one["temperature"] == 1.3 for one in told if "seed" in one)


def changed(**choice: Any) -> Callable[[Said], Said]:
    def change(said: Said) -> Said:
        said["choices"][0] |= choice
        return said

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said | {"prompt_token_ids": None}, "vLLM that knows return_token_ids"),
        (
            lambda said: said | {"prompt_token_ids": [5, *said["prompt_token_ids"][1:]]},
            r"the first that differs is number 0: 5 .* there, \d+ .* here",
        ),
        (
            lambda said: said | {"prompt_token_ids": said["prompt_token_ids"][:-1]},
            r"the first that differs is number \d+: none there, \d+ ",
        ),
        (changed(logprobs=None), "gives tokens and their log-probabilities"),
        (changed(token_ids=None), "gives tokens and their log-probabilities"),
        (lambda said: said | {"choices": []}, "gives tokens and their log-probabilities"),
        (changed(token_ids=[7] * (LONGEST + 1)), rf"log-probabilities for {LONGEST + 1} tokens"),
        (
            changed(token_ids=[7], logprobs={"content": [{"logprob": -1.0}]}),
            "an answer of 1 tokens without an end; is its --max-model-len too small",
        ),
        (
            changed(weight_versions=[{"version": "default", "start": 0, "end": 1}]),
            r"expected answers by spark-\w+-\w+ \(got some by default\)",
        ),
        (changed(weight_versions=None), r"got some by None"),
    ],
)
def test_what_can_not_be_learnt_stops(
    draw: Callable[..., Any],
    served: Serving,
    change: Callable[[Said], Said],
    message: str,
) -> None:
    served.changed = change
    with pytest.raises(RolloutError, match=rf"^train\.rft\.vllm\.server_url: .*{message}"):
        draw()


def test_a_forbidden_token_stops(
    draw: Callable[..., Any], made: tuple[Serving, Served, Any], served: Serving
) -> None:
    token = made[1].loaded.processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")

    def change(said: Said) -> Said:
        said["choices"][0]["token_ids"][0] = token
        return said

    served.changed = change
    with pytest.raises(RolloutError, match=rf"forbidden token {token} '<\|video_pad\|>'"):
        draw()


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (refused(400, "longer than max_model_len"), RolloutError, "400 .*max_model_len"),
        (refused(500, "engine died"), MachineError, "500 .*engine died"),
    ],
)
def test_a_request_that_is_refused_stops_and_one_that_fails_is_the_machines_trouble(
    draw: Callable[..., Any],
    served: Serving,
    reply: Reply,
    kind: type[Exception],
    message: str,
) -> None:
    served.broken["/v1/chat/completions"] = lambda _: reply
    with pytest.raises(kind, match=message):
        draw()


def test_a_server_that_is_away_for_a_while_is_waited_for(
    made: tuple[Serving, Served, Any],
    draw: Callable[..., Any],
    served: Serving,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Longer than the first pauses are, while `server_timeout_s` allows it."""
    expected, left = draw(), [503] * 8
    monkeypatch.setattr(vllm, "LATER_PAUSE_S", 0.01)
    _, rollout, model = made

    def loading(request: dict[str, Any]) -> Reply:
        return (left.pop(), {"error": "loading"}) if left else served.chat(request)

    served.broken["/v1/chat/completions"] = loading
    patient = replace(rollout)
    with torch.no_grad():
        assert patient.draw(model, seen(patient, CLIPS[:1]), 1, range(2)) == expected
    assert not left


@pytest.mark.parametrize("reason", [None, "abort"])
def test_an_answer_that_was_left_unfinished_is_asked_for_again(
    draw: Callable[..., Any],
    served: Serving,
    monkeypatch: pytest.MonkeyPatch,
    reason: str | None,
) -> None:
    expected, left = draw(), [reason]
    monkeypatch.setattr(chat_server, "PAUSES_S", (0.01,))

    def once(said: Said) -> Said:
        return changed(finish_reason=left.pop())(said) if left else said

    served.changed = once
    assert draw() == expected
    served.changed = changed(finish_reason=reason)
    with pytest.raises(MachineError, match=rf"left unfinished \({reason}\)"):
        draw()
