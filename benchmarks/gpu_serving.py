"""What reads and writes without learning: Whisper's encoder, a captioner; and TRL beside ours."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_models
import gpu_training
import numpy as np
import torch
import train_setup

from spark_trainer import captioners
from spark_trainer.captioners import Shown, engine
from spark_trainer.config import Captioning
from spark_trainer.data.files import read_json
from spark_trainer.data.layout import frame_name
from spark_trainer.train import flops

WINDOW_S = 30.0  # of sound, that Whisper's encoder takes at once
FRAMES = 8  # of a video that is captioned
TOKENS = 128  # of a caption


def whisper_encoder(base: Path, device: str) -> dict[str, float]:
    """Encode windows of noise by openai-whisper's large model, one by one, as its backend does."""
    import whisper

    dims = whisper.ModelDimensions(*gpu_models.WHISPER["dry" if device == "cpu" else "large-v3"])
    with torch.device(device):
        model = whisper.Whisper(dims).eval()
    noise = np.random.default_rng(0).normal(size=int(WINDOW_S * 16000)).astype(np.float32)
    mel = whisper.log_mel_spectrogram(noise, dims.n_mels)[None].to(device)
    mel = mel.half() if device == "cuda" else mel
    with torch.no_grad():
        with flops.Counter() as counter:
            model.embed_audio(mel)
        seconds = median_s(lambda: model.embed_audio(mel), 1 if device == "cpu" else 50, device)
    peak = flops.peak_tflops(torch.device(device), 1e-3 if device == "cpu" else None)
    return {
        "step_s": seconds,
        "samples": 1,
        "sound_s_per_s": WINDOW_S / seconds,
        "needed_tflop": counter.total / 1e12,
        **({"mfu": counter.total / 1e12 / seconds / peak} if peak else {}),
        **gpu_training.peak_gib(),
    }


def median_s(work: Callable[[], Any], times: int, device: str) -> float:
    """Return the seconds that some work takes, in the middle of several times."""
    took = []
    for _ in range(times + 2):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return statistics.median(took[2:])


@dataclass(frozen=True)
class Load:
    """Videos, those of a batch, tokens of a caption, and processes that read."""

    videos: int
    batch_size: int
    tokens: int
    workers: int


def captions(base: Path, device: str) -> dict[str, float]:
    """Caption clips by Qwen2-VL-7B in this process, as the caption step does."""
    dry = device == "cpu"
    load = Load(4, 2, 4, 1) if dry else Load(96, 32, TOKENS, 8)
    folder = gpu_models.qwen2_vl(base / "model", dry, "7B")
    texts = ["word1"] * (load.videos + load.batch_size)
    train_setup.manifest(base / "clips", texts, FRAMES, (64, 36) if dry else (640, 360))
    times = tuple(map(float, range(FRAMES)))
    videos = [
        Shown(tuple(frames / frame_name(number + 1) for number in range(FRAMES)), times)
        for frames in sorted((base / "clips").glob("*/frames"))
    ]
    settings = Captioning(
        captioner_backend="qwen2-vl", model_name=str(folder), max_new_tokens=load.tokens
    )
    with gpu_models.random_weights(device):  # no check of files: there are no weights
        captioner = captioners.backend("qwen2-vl").load(settings, device, 1)

    def captioned(some: list[Shown]) -> float:
        began = time.perf_counter()
        said = list(engine.run(captioner, some, load.batch_size, load.workers))
        assert all(isinstance(text, str) for _, text, _ in said), said
        return time.perf_counter() - began

    captioned(videos[: load.batch_size])
    seconds = captioned(videos[load.batch_size :])
    batches = load.videos / load.batch_size
    return {
        "step_s": seconds / batches,
        "samples": load.batch_size,
        "clips_per_s": load.videos / seconds,
        "tokens_per_s": load.videos * load.tokens / seconds,
        "decode_step_s": seconds / batches / load.tokens,
        **gpu_training.peak_gib(),
    }


def trl(base: Path, device: str) -> dict[str, float]:
    """Train what ours trains, on the same samples, by TRL's SFTTrainer.

    It recomputes every layer, as it does by default: its padded rows take more memory than ours.
    """
    import train_trl

    again = {"gradient_checkpointing": True}
    folder = gpu_training.run_folder(gpu_training.TRL, base, device, **again)
    with gpu_models.random_weights(device):
        train_trl.train(folder, train_setup.WARM + (1 if device == "cpu" else 8))
    found = read_json(folder / "trl.json")
    return {
        "updates": len(found["seconds"]),
        "step_s": statistics.median(found["seconds"]),
        "tokens_per_s": sum(found["tokens"]) / sum(found["seconds"]),
        **gpu_training.peak_gib(),
    }
