"""The training loop against a bare PyTorch loop and TRL, and what a long manifest costs.

uv run --group bench python benchmarks/train.py
"""

import itertools
import json
import operator
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure
import train_bare
import train_setup
import transformers
from measure import Measured, Options, Target
from train_setup import SMALL

from spark_trainer import families
from spark_trainer.data import dataset
from spark_trainer.data.files import read_json
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.families.kinds.vision_language import Texts
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun

MAX_LOOP_RATIO = 1.02
MAX_TRL_SHARE = 1 / 1.5  # TRL's tokens/s over ours
MAX_WAIT = 0.02
MAX_GROWTH_MB = 200.0
FEW = 1_000  # lines of the short manifest


def bare(folder: Path) -> Iterator[tuple[float, float]]:
    """Yield the bare loop's updates of a run."""
    launched = LaunchedRun.read(RunFolder(folder))
    run = launched.settings
    family = families.find(run.model_name)
    loaded = family.load(run.model_name, LoadOptions(packed=run.packing))
    root, manifest = launched.data_root, folder / "manifest.jsonl"
    samples = dataset.read(manifest, root, run, family.one_frame)["train"]
    yield from train_bare.steps(run, Texts(samples, family, loaded, run.max_length, run.packing))


def loops(base: Path, clips: int, batch_size: int, num_steps: int) -> Measured:
    """Our loop and the bare one over the same batches, then ours alone, for its data."""
    model = train_setup.checkpoint(base / "model", SMALL, side=112)
    texts = train_setup.answers(clips, 40, 80)
    manifest = train_setup.manifest(base / "clips", texts, 8, (320, 180))
    settings = {"model_name": str(model), "manifest_path": str(manifest)}
    settings |= {"batch_size": batch_size}
    folder = train_setup.run_folder("turns", base, max_steps=num_steps, **settings)
    pairs = train_bare.in_turns(folder, bare(folder))
    own, their = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [mine / other for mine, other in pairs]
    ratio = statistics.median(ratios)
    print(f"\n{f'one step, {batch_size} clips of 8 frames':<44}{'s':>9}")
    print(f"{'ours':<44}{own:>9.3f}\n{'bare PyTorch, same batches':<44}{their:>9.3f}")
    alone = train_setup.run_folder("alone", base, max_steps=num_steps, **settings)
    measure.run(trainer(alone), base)
    steps = train_setup.steps(alone)
    waits = [line["data_wait_share"] for line in steps.metrics]
    wait = statistics.mean(waits)
    print(f"{'ours alone':<44}{steps.median_s:>9.3f}")
    print(f"waiting for data: {wait:.4f} of it, median {statistics.median(waits):.4f}", flush=True)
    figures = {
        "ours_step_s": own,
        "bare_step_s": their,
        "ratio_quartiles": statistics.quantiles(ratios, n=4),
        "ours_alone_step_s": steps.median_s,
        "data_wait_median": statistics.median(waits),
    }
    return figures, [
        Target("our loop / bare PyTorch loop, a step", ratio, MAX_LOOP_RATIO),
        Target("share of a step spent waiting for data, mean", wait, MAX_WAIT),
    ]


def trainer(folder: Path) -> list[str]:
    """Return the command of a training process, as `launch` starts it."""
    return [sys.executable, "-m", "spark_trainer.train.process", str(folder)]


def against_trl(base: Path, images: int, batch_size: int, rounds: int, num_steps: int) -> Measured:
    """Tokens a second of ours, packed and padded, and of TRL's SFTTrainer, in turns."""
    model = train_setup.checkpoint(base / "model-trl", SMALL, side=224)
    texts = train_setup.answers(images, 5, 400)
    manifest = train_setup.manifest(base / "images", texts, 1, (320, 320))
    rates: dict[str, list[float]] = {"ours, packed": [], "ours, padded": [], "TRL": []}
    print()
    measure.heading("one image, answers of 5 to 400 tokens")
    for number, name in itertools.product(range(rounds), rates):
        folder = train_setup.run_folder(
            f"{name.split()[-1]}-{number}",
            base,
            model_name=str(model),
            manifest_path=str(manifest),
            clip={"num_frames": 1},
            batch_size=batch_size,
            packing=name == "ours, packed",
            max_length=1024,
            max_steps=num_steps,
        )
        script = [sys.executable, str(measure.REPOSITORY / "benchmarks/train_trl.py"), str(folder)]
        cost, _ = measure.run(script if name == "TRL" else trainer(folder), base)
        if name == "TRL":
            found = read_json(folder / "trl.json")
            rates[name].append(sum(found["tokens"]) / sum(found["seconds"]))
        else:
            rates[name].append(train_setup.steps(folder).tokens_per_s)
        measure.row(f"{name}, {rates[name][-1]:.0f} tokens/s in its steps", cost)
    shares = {
        name: statistics.median(map(operator.truediv, rates["TRL"], rates[name]))
        for name in ("ours, packed", "ours, padded")
    }
    for name, share in shares.items():
        print(f"{name}: {1 / share:.2f} times TRL's tokens/s")
    target = Target("TRL / ours packed, tokens/s", shares["ours, packed"], MAX_TRL_SHARE)
    return {"tokens_per_s": rates, "times_trl": {n: 1 / s for n, s in shares.items()}}, [target]


def memory(base: Path, many: int) -> Measured:
    """Measure what a data worker holds for a short and for a long manifest."""
    model = train_setup.checkpoint(base / "model-memory", SMALL, side=112)
    script = str(measure.REPOSITORY / "benchmarks/train_memory.py")
    found = {}
    print(f"\n{'manifest':<30}{'open s':>9}{'worker Rss MB':>15}{'Pss MB':>9}")
    for count in (FEW, many):
        command = [sys.executable, script, str(base), str(model), str(count)]
        _, output = measure.run(command, base)
        held = found[str(count)] = json.loads(output.splitlines()[-1])
        label = f"{count:,} lines, {held['manifest_mb']:.0f} MB"
        print(f"{label:<30}{held['open_s']:>9.2f}{held['rss_mb']:>15.0f}{held['pss_mb']:>9.0f}")
    growth = found[str(many)]["rss_mb"] - found[str(FEW)]["rss_mb"]
    name = f"a worker's growth from {FEW:,} to {many:,} lines, MB"
    return {"manifests": found}, [Target(name, growth, MAX_GROWTH_MB)]


def measured(base: Path, options: Options) -> Measured:
    """Measure what `only` names."""
    transformers.utils.logging.disable_progress_bar()
    figures: dict[str, Any] = {}
    targets: list[Target] = []
    parts = {
        "loops": lambda: loops(base, options.clips, options.batch_size, options.steps),
        "trl": lambda: against_trl(
            base, options.images, options.batch_size, options.rounds, options.trl_steps
        ),
        "memory": lambda: memory(base, options.lines),
    }
    for part in filter(options.only.__contains__, parts):
        found, judged = parts[part]()
        figures |= found
        targets += judged
    return figures, targets


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        steps=(60, 7, "of the loop and the bare one"),
        clips=(300, 60, "that both learn from"),
        batch_size=(8, 2, "clips of a step"),
        images=(200, 40, "that ours and TRL learn from"),
        rounds=(3, 1, "of ours and TRL"),
        trl_steps=(20, 6, "of each run in a round"),
        lines=(1_000_000, 2_000, "of the long manifest"),
        only=(["loops", "trl", "memory"],) * 2 + ("parts",),
    )
