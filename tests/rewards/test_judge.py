"""A judge behind a server with OpenAI's protocol."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from spark_trainer.errors import MachineError, UserError
from spark_trainer.rewards.combined import Rewards
from spark_trainer.system import chat_server
from tests.captioners.test_server import Answer, answering, said

from .asked import asked, group

__all__ = ["answering"]  # a fixture


def judge(url: str, **settings: Any) -> Rewards:
    named = {"server_url": url, "model_name": "some/judge", "server_timeout_s": 5.0} | settings
    return asked("judge", rewards={"judge": named})


def test_verdicts_are_shares_of_the_highest_and_asked_once(
    answering: Callable[..., str],
) -> None:
    requests: list[Any] = []

    def answer(request: Any) -> Answer:
        requests.append(request)
        question = request["messages"][0]["content"]
        return said("Rating: 7/10" if "Answer: a {dog}" in question else "0")

    reward = judge(answering(answer=answer))
    answers = group("<answer>a dog</answer>", "a {dog}", "a cat", "a {dog}")
    assert list(reward.scored(answers).rewards) == [0.7, 0, 0.7]
    assert list(reward.scored(answers).rewards) == [0.7, 0, 0.7]
    assert len(requests) == 2
    assert {(one["model"], one["temperature"]) for one in requests} == {("some/judge", 0)}
    assert (
        "Question: What is seen?\nReference answer: a dog\n"
        in (requests[0]["messages"][0]["content"])
    )


@pytest.mark.parametrize("reply", [said("good"), said("11"), said("-1"), (422, b"too long")])
def test_a_reply_that_is_no_verdict_says_nothing(
    answering: Callable[..., str], reply: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the video, so that the line goes when the video is forgotten."""
    assert judge(answering(reply)).scored(group("x", "y")).rewards == (None,)
    assert "judge clip: no verdict" in caplog.text


def test_a_judge_that_is_not_there_stops_and_never_gives_0(
    answering: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_server, "PAUSES_S", (0.01,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(MachineError, match=rf"rewards\.judge\.server_url: {url}: .*refused"):
            judge(url).scored(group("x", "y"))
    with pytest.raises(MachineError, match="503 loading"):
        judge(answering((503, b"loading"))).scored(group("x", "y"))
    with pytest.raises(UserError, match="404 no such model"):
        judge(answering((404, b"no such model"))).scored(group("x", "y"))
