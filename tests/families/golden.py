"""The losses of each family's first updates, kept to eight decimals beside this file.

python -m tests.families.golden          print what differs; exit status 1 if anything does
python -m tests.families.golden --fix    write the files; the commit that does so says why

Names of variants after it are for those alone.

Computed in float64 over pixels drawn here, so that the processor's arithmetic and the number of
threads leave no trace, and without dropout, so that no draw but the weights' is torch's: those are
the same on any x86-64.
"""

import argparse
import difflib
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.speech import with_sound
from spark_trainer.speech.heard import Said
from spark_trainer.speech.segments import Segment
from spark_trainer.train import optim

from . import tiny, tiny_pipelines
from .conftest import ANSWERS, clip

FOLDER = Path(__file__).parent / "golden"
UPDATES = 6
DIFFUSION = ("animatediff", "svd", "wan_animate")  # the families that make videos
SPEECH = ("whisper",)  # those that write down what is said
VARIANTS = (
    "blip",
    "blip2",
    "blip2_t5",
    "internvl",
    "llava",
    "llava_next",
    "llava_onevision",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_vl",
)


def losses(variant: str) -> str:
    """One loss per line, in nats a token or of a clip, each before its update."""
    with tempfile.TemporaryDirectory() as name:
        made = tiny_pipelines if variant in DIFFUSION else tiny
        checkpoint = str(getattr(made, variant)(Path(name)))
        family = families.find(checkpoint)
        loaded = family.load(checkpoint, LoadOptions())
    loaded.model.double().eval()
    run = Run(learning_rate=1e-3, warmup_steps=2)
    family.freeze(loaded.model, run)
    optimizer = optim.optimizer(loaded.model, run)
    schedule = optim.schedule(optimizer, run, UPDATES)
    lines = []
    for update in range(UPDATES):
        made_of = _clips if variant in DIFFUSION else _sounds if variant in SPEECH else _texts
        batch = made_of(family, loaded, update)
        loss = family.loss(loaded, loaded.model, batch) / batch.num_targets
        lines.append(f"{loss.item():.8f}\n")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(loaded.model.parameters(), run.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return "".join(lines)


def _texts(family: Any, loaded: Loaded, update: int) -> Batch:
    """Three clips, others for each update."""
    numbers = [(3 * update + i) % len(ANSWERS) for i in range(3)]
    frames = 1 if family.one_frame else 4
    chosen = [clip(number, ANSWERS[number], frames=frames) for number in numbers]
    encoded = [family.encode(loaded, sample, 4096) for sample in chosen]
    batch = family.collate(loaded, encoded, False)
    pixels = torch.Generator().manual_seed(update)
    for name, value in batch.tensors.items():
        if name.startswith("pixel_values"):
            batch.tensors[name] = torch.randn(value.shape, generator=pixels, dtype=torch.float64)
    return batch


def _sounds(family: Any, loaded: Loaded, update: int) -> Batch:
    """Three windows, with times, text before, or neither; their spectrograms are drawn here."""
    drawn, windows = torch.Generator().manual_seed(update), []
    for number in range(3):
        words = Segment(0.0, 2.0, ANSWERS[(3 * update + number) % len(ANSWERS)])
        before = (words,) if number == 1 else ()
        said = Said((words,), previous=before, language="en", with_times=number == 2)
        mels = torch.randn(1, 80, 3000, generator=drawn, dtype=torch.float64)
        row = family.row(loaded, said, Run(model_type="asr"), learns_language=True)
        windows.append(with_sound(row, input_features=mels))
    return family.collate(loaded, windows)


def _clips(family: Any, loaded: Loaded, update: int) -> Batch:
    """Two clips, what the encoders make of them drawn here, for they compute in float32."""
    chosen = [
        replace(
            one, seed=number, variant=number, conditions=dict.fromkeys(("pose", "face"), one.images)
        )
        for number in (2 * update, 2 * update + 1)
        for one in [clip(number, f"dog {number}", frames=5, size=(32, 32))]
    ]
    chosen = [
        replace(one, conditions={**one.conditions, "reference": one.images[:1]}) for one in chosen
    ]
    loaded.processor.vae.float()
    encoded = [tiny_pipelines.encoded(family, loaded, one, (32, 32)) for one in chosen]
    tensors = family.collate(encoded)
    loaded.processor.vae.double()  # a family may use it for its loss
    drawn = torch.Generator().manual_seed(update)
    for name, value in tensors.items():
        if value.is_floating_point() and value.ndim > 1:
            shape = value.shape[1:] if name == "empty" else value.shape  # the same for all
            drawn_value = torch.randn(shape, generator=drawn, dtype=torch.float64)
            tensors[name] = drawn_value.expand_as(value)
    seeds = [one.seed for one in chosen]
    return Batch(tensors | {"seeds": seeds}, len(seeds))


def main() -> int:
    """Compare, or write."""
    parser = argparse.ArgumentParser(prog="python -m tests.families.golden", description=__doc__)
    parser.add_argument("--fix", action="store_true", help="write the files")
    parser.add_argument("variants", nargs="*", metavar="variant", help="all without any")
    options = parser.parse_args()
    fix, differs = options.fix, False
    for variant in options.variants or (*VARIANTS, *DIFFUSION, *SPEECH):
        path, new = FOLDER / f"{variant}.txt", losses(variant)
        old = path.read_text() if path.exists() else ""
        if fix:
            path.parent.mkdir(exist_ok=True)
            path.write_text(new)
        elif old != new:
            differs = True
            lines = old.splitlines(keepends=True), new.splitlines(keepends=True)
            sys.stdout.writelines(difflib.unified_diff(*lines, f"{variant} (kept)", variant))
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
