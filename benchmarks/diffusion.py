"""Diffusion on what was encoded ahead, against encoding at each step and a bare PyTorch loop.

uv run python benchmarks/diffusion.py

AnimateDiff with all that Stable Diffusion 1.5 has, at a quarter of its width and of its number of
heads, so that encoder and network have the proportions that they have on a GPU. It learns from
videos of 1280 × 720 as config/examples/animatediff.yaml does: every fourth frame, 16 in all; here
of 128 × 128, a clip a step. A step that encodes decodes its part of the video too, on the same
cores; beside it stands one whose frames lie there as small images already.
"""

import itertools
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import measure
import media
import torch
import train_bare
import train_setup
import transformers
from measure import Measured, Options, Target

from spark_trainer import families
from spark_trainer.data import dataset
from spark_trainer.data import manifest as written
from spark_trainer.data.files import file_digest
from spark_trainer.data.layout import Layout
from spark_trainer.families.kinds.clips import CachedClips
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.media.source import opened
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.system import environment

MAX_LOOP_RATIO = 1.02
MAX_KEPT_SHARE = 1 / 1.5  # seconds of a step whose clips are kept over those of one that encodes
WIDTHS = [80, 160, 320, 320]  # of Stable Diffusion 1.5: 320, 640, 1280, 1280
VAE_WIDTHS = (32, 64, 128, 128)  # 128, 256, 512, 512
TEXT_WIDTH = 192  # 768
HEADS = 2  # 8
STRIDE = 4


def pipeline(folder: Path, widths: list[int], layers: int, side: int) -> Path:
    """Write the pipeline with random weights; returns its folder."""
    torch.manual_seed(0)
    words = transformers.CLIPTokenizer(
        vocab={"<|startoftext|>": 0, "<|endoftext|>": 1} | {f"{c}</w>": c + 2 for c in range(10)},
        merges=[],
        model_max_length=77,
    )
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=12,
        num_attention_heads=3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=tuple(widths),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEADS,  # it means their number
        norm_num_groups=16,
        layers_per_block=layers,
        sample_size=side // 8,
    )
    adapter = diffusers.MotionAdapter(
        block_out_channels=tuple(widths),
        motion_layers_per_block=layers,
        motion_num_attention_heads=HEADS,
        motion_norm_num_groups=16,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=VAE_WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=layers,
        sample_size=side,
    )
    diffusers.AnimateDiffPipeline(
        vae=vae,
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=words,
        unet=unet,
        motion_adapter=adapter,
        scheduler=diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=False),
    ).save_pretrained(folder)
    return folder


def manifest(folder: Path, clips: Path) -> Path:
    """Return what the workflow knows of videos, for a run that reads the videos."""
    layout = Layout(folder)
    layout.source("").mkdir(parents=True)
    entries = []
    for number, path in enumerate(sorted(clips.glob("*.mp4"))):
        video = file_digest(path)
        with opened(path) as source:
            duration, fps = source.duration, float(source.video.average_rate)
        layout.source(video).symlink_to(path)
        meta = {"caption": str(number % 10), "duration": duration, "fps": fps}
        entries.append({"id": video, "frames_dir": video, "audio": None, "meta": meta})
    entries.sort(key=lambda entry: str(entry["id"]))
    written.write(layout.manifest, entries)
    return layout.manifest


def bare(folder: Path) -> Iterator[tuple[float, float]]:
    """Yield the bare loop's updates of a run."""
    launched = LaunchedRun.read(RunFolder(folder))
    run = launched.settings
    family: Any = families.find(run.model_name)
    loaded = family.load(run.model_name, LoadOptions())
    root, manifest = launched.data_root, folder / "manifest.jsonl"
    samples = dataset.read(manifest, root, run, False, family.needs)["train"]
    store = launched.encoded_files
    yield from train_bare.steps(
        run, CachedClips(samples, family, loaded, run.guidance_dropout, store)
    )


def measured(base: Path, options: Options) -> Measured:
    """Compare an update on encoded clips with the bare loop, and with one that encodes."""
    environment.tune_jobs()  # as the workflow's jobs
    num_frames, side = options.frames, options.side
    clips = media.cached_clips(options.videos, options.size, len(os.sched_getaffinity(0)))
    clip = {"num_frames": num_frames, "sizes": [[side, side]], "variants": 1}
    settings: dict[str, Any] = {
        "model_name": str(pipeline(base / "pipeline", options.widths, options.layers, side)),
        "model_type": "diffusion",
        "manifest_path": str(manifest(base / "videos", clips)),
        "clip": clip | {"source": "video", "stride": STRIDE},
        "split": {"validation": options.held_out},
        "batch_size": 1,
    }
    texts = [str(number % 10) for number in range(options.videos)]
    images = train_setup.manifest(base / "images", texts, num_frames, (side * 5 // 4, side))
    ways: dict[str, dict[str, Any]] = {
        "ahead": {"encode": "ahead"},
        "each_step": {"encode": "each_step"},
        "each_step, from images": {
            "encode": "each_step",
            "manifest_path": str(images),
            "clip": clip | {"stride": 1},
        },
    }
    folder = train_setup.run_folder("turns", base, max_steps=options.steps, **settings)
    pairs = train_bare.in_turns(folder, bare(folder))
    own, their = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [mine / other for mine, other in pairs]
    title = f"one step, a clip of {num_frames} frames"
    print(f"\n{title:<44}{'s':>9}")
    print(f"{'ours, encoded ahead':<44}{own:>9.3f}\n{'bare PyTorch, the same':<44}{their:>9.3f}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number, name in itertools.product(range(options.rounds), ways):
        run = f"{list(ways).index(name)}-{number}"
        folder = train_setup.run_folder(
            run, base, max_steps=options.alone, **(settings | ways[name])
        )
        command = [sys.executable, "-m", "spark_trainer.train.process", str(folder)]
        cost, _ = measure.run(command, base)
        seconds[name].append(train_setup.steps(folder).median_s)
        print(f"{'alone, encode: ' + name:<44}{seconds[name][-1]:>9.3f}{cost.peak_mb:>9.0f} MB")
    shares = list(map(float.__truediv__, seconds["ahead"], seconds["each_step"]))
    figures = {
        "ours_step_s": own,
        "bare_step_s": their,
        "ratio_quartiles": statistics.quantiles(ratios, n=4),
        "step_s": seconds,
    }
    return figures, [
        Target("our loop / bare loop, a step", statistics.median(ratios), MAX_LOOP_RATIO),
        Target("encoded ahead / at each step", statistics.median(shares), MAX_KEPT_SHARE),
    ]


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        steps=(40, 7, "of our loop and of the bare one"),
        rounds=(3, 1, "of the ways to encode"),
        alone=(9, 6, "steps of a round"),
        videos=(40, 6, "videos"),
        held_out=(0.1, 0.4, "share of them"),
        size=("1280:720", "160:90", "width:height of the videos"),
        frames=(16, 2, "of a clip"),
        side=(128, 32, "pixels of a clip"),
        widths=(WIDTHS, [16, 32, 32, 32], "of the network's blocks"),
        layers=(2, 1, "of each block of the networks"),
    )
