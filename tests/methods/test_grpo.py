"""A model learns from rewards: what is recorded, what stays the same, what stops."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.methods.watch import UPDATES_OF_NOTHING, NothingRewardedError
from spark_trainer.rewards.base import Answered
from spark_trainer.rewards.combined import Rewards, Scored
from spark_trainer.runs.spec import RunSpec
from spark_trainer.train import launch, memory_check, memory_plan, setup
from spark_trainer.train.loop import Trainer
from spark_trainer.train.memory_pass import Data, Layer, Moment
from spark_trainer.train.memory_plan import Planner
from spark_trainer.train.topology import Topology
from tests.families import tiny
from tests.train.conftest import (
    _fresh_accelerator,
    checkpoint,
    make,
    manifest,
    metrics,
    train,
    write_run,
)
from tests.train.test_memory_plan import real

from . import squares

__all__ = ["_fresh_accelerator", "checkpoint", "make", "manifest"]  # fixtures

REWARDS = """
import os
import signal

answered = 0


def letters(completions, **columns):
    return [(1 + len(set(text))) / 10 for text in completions]


def some(completions, reference, **columns):
    known = reference[0] in ("red", "blue")
    return [len(set(text)) / 10 if known else 0.5 for text in completions]


def nothing(completions):
    return [0.0] * len(completions)


def mortal(completions, **columns):
    global answered
    answered += 1
    if os.environ.get("DIES") == f"{os.environ['RANK']} {answered}":
        os.kill(os.getpid(), signal.SIGKILL)
    return letters(completions)
"""
NEAR = 0.1  # of the memory that real tensors take
CLOCK = {"rollout_tokens_per_s", "learning_tokens_per_s", "scoring_s"}
Lines = list[dict[str, float]]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.qwen2_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares.write(tmp_path_factory.mktemp("squares") / "data", 16)


@pytest.fixture
def rft(make: Any, qwen: Path, data: Path, tmp_path: Path) -> Callable[..., RunSpec]:
    """Make the spec of a short run; `settings` of its section `rft`, `run` of all else."""
    (tmp_path / "mine.py").write_text(REWARDS)

    def rft(
        reward: str = "letters",
        *,
        name: str = "run",
        run: dict[str, Any] | None = None,
        **settings: Any,
    ) -> RunSpec:
        small: dict[str, Any] = {
            "model_type": "rft",
            "model_name": str(qwen),
            "manifest_path": str(data),
            "text": {"prompt": "what colour is the square?"},
            "clip": {"num_frames": 2},
            "max_length": 128,
            "global_batch_size": 4,
            "batch_size": 16,
            "max_steps": 2,
            "eval_steps": 2,
            "schedule": "constant",
        }
        own = {
            "reward_funcs": [f"{tmp_path / 'mine.py'}:{reward}"],
            "num_generations": 4,
            "max_completion_length": 6,
        }
        return make(name, **(small | (run or {})), rft=own | settings)  # type: ignore[no-any-return]

    return rft


def trained(made: RunSpec) -> Lines:
    """The metrics without those that depend on the clock."""
    lines = train(write_run(made))
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]


def updates(lines: Lines) -> Lines:
    return [line for line in lines if "loss" in line]


@pytest.mark.parametrize("finetune", ["full", "lora"])
def test_an_update_records_what_rewards_and_answers_are_like(rft: Any, finetune: str) -> None:
    """What it diverges from is a copy, or the model without its adapters."""
    made = rft(beta=0.04, run={"finetune": finetune})
    lines = updates(train(write_run(made)))
    assert len(lines) == 2
    for line in lines:
        assert line["reward"] == line["rewards/letters/mean"] > 0
        assert line["reward_std"] == line["rewards/letters/std"] > 0
        assert 0 <= line["frac_reward_zero_std"] < 1
        assert 1 <= line["completions/mean_length"] <= 6
        assert 0 <= line["completions/clipped_ratio"] <= 1
        assert line["entropy"] > 1
        assert line["clip_ratio/low_mean"] == line["clip_ratio/high_mean"] == 0
        assert line["sampling/logp_difference"] < 1e-5
        assert line["grad_norm"] > 0
        assert {*line} >= CLOCK
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-9)
    assert lines[1]["kl"] > 0
    summary = json.loads((made.folder.path / "trained.json").read_text())
    assert summary["first_reward"] > 0
    shown = json.loads((made.folder.path / "samples/step_00000002.json").read_text())
    assert shown[0]["caption"] in squares.COLOURS
    learnt = json.loads((made.folder.path / "samples/learnt_00000002.json").read_text())
    assert {one["video"] for one in learnt}.isdisjoint(one["video"] for one in shown)
    for one in learnt:
        better = [answer["advantage"] for answer in one["answers"]]
        assert len(better) == 4
        assert sum(better) == pytest.approx(0, abs=1e-6)
    page = (made.folder.path / "samples/step_00000002.html").read_text()
    assert page.count("<img") == 2 * (len(shown) + len(learnt))


def test_the_curve_is_the_same_whatever_the_batch_and_the_workers(rft: Any) -> None:
    """To rounding: a sum over other batches."""
    one = trained(rft(name="one", run={"max_steps": 3}))
    other = trained(rft(name="other", run={"max_steps": 3, "batch_size": 3, "num_workers": 1}))
    close(one, other)


def close(one: Lines, other: Lines) -> None:
    for line, same in zip(one, other, strict=True):
        assert line.keys() == same.keys()
        assert same == pytest.approx(line, rel=1e-3, abs=1e-6)


@pytest.mark.long
def test_two_processes_and_four_learn_what_one_does(rft: Any) -> None:
    """The flat groups of all are replaced by the same prompts, and all rewards are one batch."""
    told = {"dynamic_sampling": True, "max_resample_times": 4, "scale_rewards": "batch"}
    one = trained(rft("some", name="one", run={"max_steps": 3}, **told))
    for number in (2, 4):
        run = {"max_steps": 3, "cpu_processes": number}
        made = rft("some", name=f"run-{number}", run=run, **told)
        launch.fit(made, Path(made.settings.manifest_path), granted_gpus=0, threads=number)
        assert json.loads((made.folder.path / "trained.json").read_text())["processes"] == number
        lines = metrics(made.folder.path)
        close(one, [{k: v for k, v in line.items() if k not in CLOCK} for line in lines])


@pytest.mark.parametrize(
    ("settings", "run"),
    [
        ({"num_iterations": 2, "beta": 0.04, "loss_type": "grpo"}, {}),
        ({"beta": 0.04, "scale_rewards": "batch"}, {"finetune": "lora", "packing": True}),
    ],
    ids=["full", "lora"],
)
def test_a_run_goes_on_as_if_it_had_never_stopped(
    rft: Any, settings: dict[str, Any], run: dict[str, Any]
) -> None:
    """Several updates of a rollout: the checkpoint that is due amid them comes after the last."""
    made = rft(run={"max_steps": 4, "checkpoint_steps": 1, "keep_checkpoints": 9} | run, **settings)
    folder = made.folder.path
    lines = train(write_run(made))
    steps = sorted(path.name for path in (folder / "checkpoints").glob("step_*"))
    assert len(steps) == (2 if "num_iterations" in settings else 4)
    for late in steps[len(steps) // 2 :]:
        shutil.rmtree(folder / "checkpoints" / late)
    shutil.rmtree(folder / "final")
    again = train(folder)
    assert len(again) == len(lines)
    for line, same in zip(lines, again, strict=True):
        assert {k: v for k, v in same.items() if k not in CLOCK} == {
            k: v for k, v in line.items() if k not in CLOCK
        }
    if "num_iterations" in settings:
        assert ["reward" in line for line in updates(lines)] == [True, False, True, False]


def test_flat_groups_make_way_for_prompts_that_teach_something(rft: Any) -> None:
    plain = updates(trained(rft("some", name="plain")))
    sampled = {"dynamic_sampling": True, "max_resample_times": 8}
    dynamic = updates(trained(rft("some", name="dynamic", **sampled)))
    assert plain[0]["frac_reward_zero_std"] > 0
    assert dynamic[0]["frac_reward_zero_std"] == 0


def test_flat_groups_make_way_for_prompts_that_the_update_does_not_have(
    rft: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the 16 clips is asked about once, where none teaches anything."""
    asked = noted(monkeypatch)
    run = {"max_steps": 1, "split": {"validation": 0}}
    trained(rft("nothing", run=run, dynamic_sampling=True, max_resample_times=8))
    assert len(asked) == len({one.video for one in asked}) == 16


def noted(monkeypatch: pytest.MonkeyPatch) -> list[Answered]:
    """Note the groups that rewards are asked about."""
    asked = []
    scored = Rewards.scored

    def note(self: Rewards, answered: Answered) -> Scored:
        asked.append(answered)
        return scored(self, answered)

    monkeypatch.setattr(Rewards, "scored", note)
    return asked


def test_answers_over_shuffled_frames_are_drawn_where_a_reward_asks(
    rft: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-GRPO: half as many, over the same frames in another order."""
    asked = noted(monkeypatch)
    own = rft().settings.rft.reward_funcs
    run = {"max_steps": 1, "split": {"validation": 0}}
    lines = updates(trained(rft(run=run, reward_funcs=[*own, "temporal"])))
    assert "rewards/temporal/mean" in lines[0]
    assert len(asked) == 4
    for one in asked:
        assert one.shuffled is not None
        assert (len(one.answers), len(one.shuffled.answers)) == (4, 2)
        assert one.shuffled.token_ids != one.token_ids[:2]


def test_a_single_frame_has_no_order_to_compare_with(rft: Any) -> None:
    own = rft().settings.rft.reward_funcs
    run = {"max_steps": 1, "split": {"validation": 0}, "clip": {"num_frames": 1}}
    [line] = updates(trained(rft(run=run, reward_funcs=[*own, "temporal"])))
    assert line["reward"] == line["rewards/letters/mean"]
    assert "rewards/temporal/mean" not in line


def test_a_run_without_any_reward_ends_and_shows_answers(
    rft: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = rft("nothing", run={"max_steps": 99, "global_batch_size": 1, "eval_steps": 99})
    with pytest.raises(NothingRewardedError, match=r"reference: '(red|green|blue|yellow)'"):
        train(write_run(made))
    lines = (made.folder.path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == UPDATES_OF_NOTHING - 1 + 1  # the evaluation before the first is one
    assert "nothing is learnt" in (made.folder.path / "train.log").read_text()


def test_a_family_that_is_not_asked_in_a_chat_is_refused(rft: Any, checkpoint: Path) -> None:
    folder = write_run(rft(run={"model_name": str(checkpoint)}))
    with pytest.raises(ValueError, match=r"captions a frame, it is not asked in a chat"):
        setup.prepare(folder)


def test_a_reference_that_a_reward_can_not_read_is_told_before_weights_are_loaded(rft: Any) -> None:
    folder = write_run(rft(reward_funcs=["choice"]))
    message = r"max_left_out: 12 of 12 videos .*: choice: expected a list of texts in meta\.options"
    with pytest.raises(ValueError, match=message):
        setup.prepare(folder)


def test_a_question_without_room_for_its_answer_is_left_out(rft: Any) -> None:
    folder = write_run(rft(run={"max_length": 40}, max_completion_length=39))
    start = setup.prepare(folder)
    read = start.training[[0]]
    assert (
        "with 39 of train.rft.max_completion_length is more than train.max_length, 40"
        in (read.reasons[0])
    )


def test_what_it_takes_of_memory_is_known_before(rft: Any, data: Path) -> None:
    """What learns is there a second time, for a divergence; what generates has all weights."""
    held, free = rft(beta=0.04).settings, rft(name="free").settings
    alone = Planner(Topology(1, 1, "cpu"), Data(data, data.parent))
    taken = alone.measured(held)
    assert alone.plan(held).weights - alone.plan(free).weights == taken.learnt > 0
    more = alone.plan(held).peak - alone.plan(free).peak
    assert more == pytest.approx(taken.learnt, rel=1e-3)  # and what it says of each token
    assert alone.plan(held).gathered == 0
    assert Planner(Topology(1, 1, "cpu"), None).plan(held).peak
    shared = held.model_copy(update={"fsdp": True})
    deep = replace(taken, layers=(*(Layer(1000, 1000),) * 99, Layer(0, 0)), moments=(Moment(0, 0),))
    plan = memory_plan.planned(shared, Topology(1, 64, "cpu"), deep)
    assert plan.gathered == 4 * deep.num_weights
    assert plan.peak == plan.weights + plan.optimizer + plan.gathered + taken.generating
    assert memory_check.too_large(replace(plan, gathered=3 * 2**30, peak=2**32), 2**31) == (
        "4.0 GiB of each GPU, 3.0 of it all weights at once, to generate answers, which has 2.0"
    )


def test_what_it_takes_of_memory_is_what_tensors_take(rft: Any, data: Path) -> None:
    """A batch is of answers: a process takes as many of an update as there are to its prompts."""
    made = rft()
    trainer = Trainer.build(setup.prepare(write_run(made)))
    plan = Planner(Topology(1, 1, "cpu"), Data(data, data.parent)).plan(made.settings)
    assert plan.peak == pytest.approx(real(trainer), rel=NEAR)
