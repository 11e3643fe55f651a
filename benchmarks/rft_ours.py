"""Our learning from rewards in one process, started by `rft.py`.

python benchmarks/rft_ours.py <run folder> once|each

`once` is the trainer as users run it. With `each` the vision tower sees a clip for each answer to
it, while answers are drawn and learnt, as it does where a batch repeats the pixels.
"""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from train_setup import WARM

from spark_trainer.families.kinds.batch import Batch
from spark_trainer.methods.rating import Rater
from spark_trainer.rollouts.base import Question, Seen
from spark_trainer.rollouts.learning import LEARNT, Learnt, Scorer
from spark_trainer.system import log
from spark_trainer.train import setup
from spark_trainer.train.loop import Trainer


@contextlib.contextmanager
def every_time() -> Iterator[None]:
    """Let the tower see a clip once for each answer."""
    seen_once, scored = Rater._seen, Scorer.log_probabilities

    def seen(self: Rater, model: Any, question: Question) -> Seen:
        for _ in range(self.run.rft.num_generations - 1):
            seen_once(self, model, question)
        return seen_once(self, model, question)

    def log_probabilities(self: Scorer, model: Any, batch: Batch) -> Any:
        learnt: Learnt = batch.tensors[LEARNT]
        each = tuple(learnt.seen[number] for number in learnt.question_of)
        repeated = dataclasses.replace(learnt, seen=each, question_of=tuple(range(len(each))))
        return scored(self, model, batch._replace(tensors=batch.tensors | {LEARNT: repeated}))

    with (
        mock.patch.object(Rater, "_seen", seen),
        mock.patch.object(Scorer, "log_probabilities", log_probabilities),
    ):
        yield


def train(folder: Path) -> None:
    """Train, and write the CPU seconds of each update and its metrics to `updates.json`."""
    seconds: list[float] = []

    @contextlib.contextmanager
    def progress(*_: Any) -> Iterator[Callable[[], None]]:
        began = time.process_time()

        def advance() -> None:
            nonlocal began
            now = time.process_time()
            seconds.append(now - began)
            began = now

        yield advance

    with mock.patch.object(log, "progress", progress):
        Trainer.build(setup.prepare(folder)).train()
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    told = [line for line in lines if "loss" in line]
    found = {
        "cpu_s": seconds[WARM:-1],  # the last one evaluates
        "mean_length": [line["completions/mean_length"] for line in told],
        "flat": [line["frac_reward_zero_std"] for line in told],
        "rollout_tokens_per_s": [line["rollout_tokens_per_s"] for line in told[WARM:]],
        "learning_tokens_per_s": [line["learning_tokens_per_s"] for line in told[WARM:]],
    }
    (folder / "updates.json").write_text(json.dumps(found))


if __name__ == "__main__":
    with every_time() if sys.argv[2] == "each" else contextlib.nullcontext():
        train(Path(sys.argv[1]))
