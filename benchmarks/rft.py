"""Learning from rewards against TRL's GRPOTrainer, and seeing a clip once for all its answers.

uv run --group bench python benchmarks/rft.py
"""

import os
import statistics
import sys
from pathlib import Path
from typing import Any

import measure
import train_setup
import transformers
from measure import REPOSITORY, Measured, Options, Target

from spark_trainer.data.files import read_json
from tests.families import tiny
from tests.methods import squares

MAX_TRL_SHARE = 0.75  # our CPU seconds over TRL's
MAX_ONCE_SHARE = 0.8  # CPU seconds with a clip seen once, over one seen for each answer
REWARD = REPOSITORY / "benchmarks/rft_reward.py"
PROMPTS, GENERATIONS, LENGTH = 8, 8, 16
SIDE = tiny.SIDE

Figures = dict[str, float]


def settings(model: Path, manifest: Path, num_frames: int, steps: int) -> dict[str, Any]:
    """Return the run's settings; so small a learning rate that answers stay as long as they are."""
    return {
        "model_type": "rft",
        "model_name": str(model),
        "manifest_path": str(manifest),
        "text": {"prompt": "what colour is the square?"},
        "clip": {"num_frames": num_frames},
        "max_length": 256,
        "split": {"validation": 0},
        "freeze": [],
        "global_batch_size": PROMPTS,
        "batch_size": PROMPTS * GENERATIONS,
        "num_workers": 0,
        "max_steps": steps,
        "learning_rate": 1e-6,
        "schedule": "constant",
        "rft": {
            "reward_funcs": [f"{REWARD}:letters"],
            "num_generations": GENERATIONS,
            "max_completion_length": LENGTH,
        },
    }


def updates(base: Path, name: str, script: list[str], **run: Any) -> Figures:
    """Run a process over a run folder of its own; returns the medians of its updates."""
    folder = train_setup.run_folder(name, base, **run)
    file, *arguments = script
    command = [sys.executable, str(REPOSITORY / "benchmarks" / file), str(folder), *arguments]
    cost, _ = measure.run(command, base)
    told = read_json(folder / "updates.json")
    found = {key: statistics.median(each) for key, each in told.items()}
    measure.row(f"{name}, {found['cpu_s']:.3f} CPU s an update", cost)
    return found


def in_turns(
    base: Path, names: dict[str, list[str]], rounds: int, **run: Any
) -> tuple[dict[str, list[Figures]], float]:
    """Run two in turns; returns their figures and the median share of the first in the second."""
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for number in range(rounds):
        for name, script in names.items():
            found[name].append(updates(base, f"{name}-{number}", script, **run))
    pairs = zip(*found.values(), strict=True)
    return found, statistics.median(one["cpu_s"] / other["cpu_s"] for one, other in pairs)


def measured(base: Path, options: Options) -> Measured:
    """Measure on images that TRL takes, then on videos."""
    os.environ["OMP_NUM_THREADS"] = "1"
    transformers.utils.logging.disable_progress_bar()
    model = tiny.qwen2_vl(base / "model")
    images = squares.write(base / "images", options.clips)
    measure.heading(f"{PROMPTS} prompts, {GENERATIONS} answers to each, one image")
    scripts = {"ours": ["rft_ours.py", "once"], "TRL": ["rft_trl.py"]}
    run = settings(model, images, 1, options.steps)
    trl, against_trl = in_turns(base, scripts, options.rounds, **run)
    texts = ["red"] * options.clips
    videos = train_setup.manifest(base / "videos", texts, options.frames, (SIDE, SIDE))
    measure.heading(f"the same, videos of {options.frames} frames")
    scripts = {"once": ["rft_ours.py", "once"], "each": ["rft_ours.py", "each"]}
    run = settings(model, videos, options.frames, options.steps)
    vision, against_each = in_turns(base, scripts, options.rounds, **run)
    for name, each in {"image": trl["ours"], "video": vision["once"]}.items():
        for what in ("rollout", "learning"):
            rate = statistics.median(one[f"{what}_tokens_per_s"] for one in each)
            print(f"{name}, {what}: {rate:.0f} tokens/s")
    return {"image": trl, "video": vision}, [
        Target("CPU s an update, ours / TRL, images", against_trl, MAX_TRL_SHARE),
        Target("vision once a group / once an answer, CPU s", against_each, MAX_ONCE_SHARE),
    ]


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        steps=(24, 7, "of each run in a round"),
        rounds=(3, 1, "of each pair"),
        clips=(120, 40, "that a run learns from"),
        frames=(8, 2, "of a video"),
    )
