"""Learning from rewards against TRL's GRPOTrainer, and seeing a clip once for all its answers.

uv run --group bench python benchmarks/rft.py
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import rft_ours
import rft_trl
import torch
import train_setup
import transformers
from measure import REPOSITORY, Cost, Measured, Options, Target
from rft_ours import Told

from tests.families import tiny

MAX_TRL_SHARE = 0.75  # our CPU seconds over TRL's
MAX_ONCE_SHARE = 0.8  # CPU seconds with a clip seen once, over one seen for each answer
# Times that the pixels of an update's clips are in memory: as they were read, and joined for a call
# of the tower. Repeated for answers, they would be there GENERATIONS times.
MAX_HELD = 2.0
REWARD = REPOSITORY / "benchmarks/rft_reward.py:checksum"
PROMPTS, GENERATIONS, LENGTH = 8, 8, 16
SPEEDS = ("rollout_tokens_per_s", "learning_tokens_per_s")

Way = Callable[[Path], Told]  # to train a run folder
Rounds = list[tuple[Told, Told]]  # what ours told in each, and the other way


@dataclass(frozen=True)
class Part:
    """What ours and another way train in turns, each time in a process of its own.

    Attributes:
        name: what the clips are.
        other: the other way.
        num_frames: of a clip.
        size: of a frame, in pixels.
        model: writes the checkpoint.
        steps: updates of a run.
        rounds: how often both ways train.
    """

    name: str
    other: Way
    num_frames: int
    size: tuple[int, int]
    model: Callable[[Path], Path]
    steps: int
    rounds: int

    def measured(self, base: Path, num_clips: int) -> Rounds:
        """Return what both ways told."""
        inside = base / self.name.replace(" ", "-")
        texts = ["grey"] * num_clips
        clips = train_setup.manifest(inside / "clips", texts, self.num_frames, self.size)
        run = self._settings(self.model(inside / "model"), clips)
        measure.heading(f"{self.name}, {PROMPTS} prompts, {GENERATIONS} answers to each")
        found = []
        for number, way in itertools.product(range(self.rounds), (rft_ours.once, self.other)):
            folder = train_setup.run_folder(f"{way.__name__}-{number}", inside, **run)
            cost, told = trained(way, folder)
            told["pixels"]["sent_an_update"] = told["pixels"].pop("sent") / self.steps
            measure.row(f"{way.__name__}, {told['cpu_s']:.3f} CPU s an update", cost)
            found.append(told | {"peak_mb": cost.peak_mb})
        return [*zip(found[::2], found[1::2], strict=True)]

    def _settings(self, model: Path, clips: Path) -> dict[str, Any]:
        """Return the run's; so small a learning rate that answers stay as long as they are."""
        return {
            "model_type": "rft",
            "model_name": str(model),
            "manifest_path": str(clips),
            "text": {"prompt": "what colour is the square?"},
            "clip": {"num_frames": self.num_frames},
            "max_length": 256,
            "split": {"validation": 0},
            "freeze": [],
            "global_batch_size": PROMPTS,
            "batch_size": PROMPTS * GENERATIONS,
            "num_workers": 0,
            "max_steps": self.steps,
            "learning_rate": 1e-6,
            "schedule": "constant",
            "rft": {
                "reward_funcs": [str(REWARD)],
                "num_generations": GENERATIONS,
                "max_completion_length": LENGTH,
            },
        }

    def judged(self, found: Rounds) -> list[Target]:
        """Judge what both ways told; TRL takes images, so what it is compared by are those."""
        with_trl = self.other is rft_trl.trl
        what = "ours / TRL's" if with_trl else "vision once / once an answer"
        limit = MAX_TRL_SHARE if with_trl else MAX_ONCE_SHARE
        shares = [own["cpu_s"] / other["cpu_s"] for own, other in found]
        own, other = held(found)
        print(f"the pixels of an update are in memory {own:.1f} times, with the other {other:.1f}")
        for speed in SPEEDS:
            print(f"{speed}: {statistics.median(own[speed] for own, _ in found):,.0f}")
        print(flush=True)
        return [
            Target(f"{self.name}: CPU s an update, {what}", statistics.median(shares), limit),
            Target(f"{self.name}: pixels in memory / those of its clips", own, MAX_HELD),
        ]


def held(found: Rounds) -> list[float]:
    """Return how often each way holds the pixels of an update's clips.

    The other way sends them through the tower for each answer, once as answers are drawn and once
    as they are learnt.
    """
    [both, *_] = found
    clips = both[1]["pixels"]["sent_an_update"] / (2 * GENERATIONS)
    return [max(one["pixels"]["held"].values()) / clips for one in both]


def trained(way: Way, folder: Path) -> tuple[Cost, Told]:
    """Train in a fork of this process, which has imported all that any way needs."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_trained, (way, folder))


def _trained(way: Way, folder: Path) -> tuple[Cost, Told]:
    """Return what it cost, and what the way told: of figures of each update the median."""
    began, output = time.perf_counter(), folder / "output.txt"
    with open(output, "w") as file, contextlib.redirect_stdout(file):
        told = way(folder)
    wall, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    medians = {name: statistics.median(told[name]) for name in told.keys() - {"pixels"}}
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024), told | medians


def parts(options: Options) -> list[Part]:
    """Return all that can be measured: a model where calls cost most, and one where products do."""
    small = ((tiny.SIDE, tiny.SIDE), tiny.qwen2_vl, options.steps, options.rounds)
    written = functools.partial(train_setup.checkpoint, shape=train_setup.SMALL, side=112)
    wide = ((320, 180), written, options.wide_steps, 1)
    return [
        Part("small images", rft_trl.trl, 1, *small),
        Part("small videos", rft_ours.each, options.frames, *small),
        Part("wide images", rft_trl.trl, 1, *wide),
        Part("wide videos", rft_ours.each, options.frames, *wide),
    ]


def measured(base: Path, options: Options) -> Measured:
    """Measure the parts whose model `only` names."""
    chosen = [part for part in parts(options) if part.name.startswith(tuple(options.only))]
    figures, targets = {}, list[Target]()
    for part in chosen:
        found = part.measured(base, options.clips)
        names = rft_ours.once.__name__, part.other.__name__
        figures[part.name] = dict(zip(names, zip(*found, strict=True), strict=True))
        targets += part.judged(found)
    return figures, targets


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # which a fork would not survive
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    measure.main(
        __doc__,
        measured,
        steps=(16, 7, "of each run of the small model"),
        wide_steps=(9, 7, "of each run of the wide model"),
        rounds=(3, 1, "of both ways with the small model"),
        clips=(120, 40, "that a run learns from"),
        frames=(8, 2, "of a video"),
        only=(["small", "wide"], ["small"], "models"),
    )
