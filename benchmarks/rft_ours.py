"""Our learning from rewards, as users run it, and with pixels that are repeated for each answer.

There the vision tower sees a clip as often as it is answered, while answers are drawn and again
while they are learnt.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from rft_pixels import Pixels
from train_setup import WARM

from spark_trainer.families.kinds import padding, towers
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.methods.rating import Rater
from spark_trainer.rollouts.base import Question, Seen
from spark_trainer.rollouts.learning import LEARNT, Learnt, Scorer
from spark_trainer.system.progress import Advance
from spark_trainer.train import loop, setup
from spark_trainer.train.loop import Trainer

Told = dict[str, Any]


def once(folder: Path) -> Told:
    """Train a run; returns the CPU seconds of its updates, and what was recorded of them."""
    seconds: list[float] = []

    @contextlib.contextmanager
    def progress(*_: Any, **__: Any) -> Iterator[Advance]:
        began = time.process_time()

        def advance(note: str = "") -> None:
            nonlocal began
            now = time.process_time()
            seconds.append(now - began)
            began = now

        yield advance

    prepared, pixels = setup.prepare(folder), Pixels()
    pixels.watch(prepared.loaded.model)
    with mock.patch.object(loop, "progress", progress):
        Trainer.build(prepared).train()
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    told = [line for line in lines if "loss" in line]
    return {
        "cpu_s": seconds[WARM:-1],  # the last one is followed by a checkpoint
        "mean_length": [line["completions/mean_length"] for line in told],
        "flat": [line["frac_reward_zero_std"] for line in told],
        "rollout_tokens_per_s": [line["rollout_tokens_per_s"] for line in told[WARM:]],
        "learning_tokens_per_s": [line["learning_tokens_per_s"] for line in told[WARM:]],
        "pixels": dataclasses.asdict(pixels),
    }


def each(folder: Path) -> Told:
    """Train a run whose tower sees a clip once for each answer; see `once`."""
    with (
        mock.patch.object(Rater, "_seen", _seen),
        mock.patch.object(Scorer, "log_probabilities", _log_probabilities),
    ):
        return once(folder)


_once = Scorer.log_probabilities


def _seen(self: Rater, model: Any, question: Question) -> Seen:
    count = self.run.rft.num_generations
    made = towers.features(model, padding.repeated(question.encoded.vision, count))
    return Seen(question, {name: one[: len(one) // count] for name, one in made.items()})


def _log_probabilities(self: Scorer, model: Any, batch: Batch) -> Any:
    learnt: Learnt = batch.tensors[LEARNT]
    asked = [learnt.seen[number].question for number in learnt.question_of]
    vision = padding.join([one.encoded.vision for one in asked])
    features = padding.join([dict(learnt.seen[number].features) for number in learnt.question_of])
    encoded = dataclasses.replace(asked[0].encoded, vision=vision)
    whole = dataclasses.replace(asked[0], encoded=encoded)
    repeated = dataclasses.replace(learnt, seen=(Seen(whole, features),), question_of=(0,))
    return _once(self, model, batch._replace(tensors=batch.tensors | {LEARNT: repeated}))
