"""A model that was told wrong answers learns the right ones from rewards, and from the clip.

Before, it learns supervised by answers that are often wrong, so that it knows what answers look
like and says each now and then.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from spark_trainer.config import Run
from spark_trainer.data.layout import Layout
from spark_trainer.runs import configured
from tests.families import tiny
from tests.train.conftest import _fresh_accelerator, train, write_run

from . import squares

__all__ = ["_fresh_accelerator"]  # a fixture

pytestmark = pytest.mark.long
EPOCH = 12  # updates: 96 clips, 8 at a time; the other 32 are held out
UPDATES = 80
TOLD, NEW = 160, 128  # clips: those it is told about, and others that rewards tell about
WRONG = {"red": "green", "blue": "yellow", "0 to 2": "4 to 6", "2 to 4": "0 to 2"}
CHANCE = """
import random

draw = random.Random(0)


def chance(completions):
    return [float(draw.random() < 0.5) for _ in completions]
"""


def mistaken(answer: str, number: int) -> str:
    """What is said of a clip: in 60 % of two kinds of them something wrong."""
    return WRONG[answer] if answer in WRONG and number // 4 % 5 < 3 else answer


def run_folder(folder: Path, name: str, **settings: Any) -> Path:
    small: dict[str, Any] = {
        "output_dir": str(folder / "runs"),
        "text": {"prompt": "what?"},
        "max_length": 128,
        "checkpoint_steps": 10**6,
        "num_samples": 0,
        "num_workers": 0,
        "allow_cpu": True,
        "min_gpus": 0,
    }
    run = Run(**(small | settings))
    return write_run(configured.spec_on_manifest(name, run, Layout(folder / "state")))


def told(folder: Path, manifest: Path, num_frames: int, steps: int) -> Path:
    """Train by what the manifest says; returns the weights."""
    made = run_folder(
        folder,
        "told",
        model_name=str(tiny.qwen2_vl(folder / "qwen")),
        manifest_path=str(manifest),
        clip={"num_frames": num_frames},
        split={"validation": 0.05},
        batch_size=16,
        max_steps=steps,
        eval_steps=steps,
        learning_rate=2e-3,
        freeze=[],
    )
    train(made)
    return made / "final"


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    return told(folder, squares.write(folder / "data", TOLD, mistaken), 2, 250)


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moments")
    return told(folder, squares.write_moments(folder / "data", TOLD, mistaken), 6, 300)


@pytest.fixture
def rewards(tmp_path: Path) -> Callable[..., tuple[float, float]]:
    """Learn from rewards; returns the mean of one in the first updates and in the last."""

    def rewards(base: Path, manifest: Path, answer: str, name: str, **rft: Any) -> Any:
        made = run_folder(
            tmp_path,
            "rewarded",
            model_type="rft",
            model_name=str(base),
            manifest_path=str(manifest),
            text={"prompt": "what?", "answer": answer},
            clip={"num_frames": 6 if name == "temporal_iou" else 2},
            split={"validation": 0.25},
            global_batch_size=8,
            batch_size=64,
            max_steps=UPDATES,
            eval_steps=UPDATES,
            learning_rate=3e-4,
            schedule="constant",
            rft={"reward_funcs": [name], "max_completion_length": 10} | rft,
        )
        lines = [line for line in train(made) if "loss" in line]
        found = [line[f"rewards/{name}/mean"] for line in lines]
        first, last = fmean(found[:EPOCH]), fmean(found[-EPOCH:])
        print("sampled reward", first, "→", last)
        return first, last

    return rewards


def test_squares_are_called_by_their_colour(rewards: Any, colours: Path, tmp_path: Path) -> None:
    clips = squares.write(tmp_path / "clips", NEW, first=TOLD)
    first, last = rewards(colours, clips, "{colour}", "exact")
    assert last > max(first + 0.1, 0.85)


def test_chance_rewards_teach_nothing(rewards: Any, colours: Path, tmp_path: Path) -> None:
    (tmp_path / "chance.py").write_text(CHANCE)
    own = {"reward_funcs": [f"{tmp_path / 'chance.py'}:chance", "exact"], "reward_weights": [1, 0]}
    clips = squares.write(tmp_path / "clips", NEW, first=TOLD)
    first, last = rewards(colours, clips, "{colour}", "exact", **own)
    assert last < first + 0.1


def test_black_frames_teach_no_more_than_guessing(
    rewards: Any, colours: Path, tmp_path: Path
) -> None:
    """The rewards are right, but nothing is seen: one of four colours is right."""
    clips = squares.write(tmp_path / "clips", NEW, dark=True, first=TOLD)
    _, last = rewards(colours, clips, "{colour}", "exact")
    assert last < 1 / len(squares.COLOURS) + 0.1


def test_the_moment_is_named_at_which_the_colour_changes(
    rewards: Any, moments: Path, tmp_path: Path
) -> None:
    clips = squares.write_moments(tmp_path / "clips", NEW, first=TOLD)
    first, last = rewards(moments, clips, "{moment}", "temporal_iou")
    assert last > first + 0.1
