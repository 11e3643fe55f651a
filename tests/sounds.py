"""Videos as a manifest has them of which only the sound is there: noise, and what is said in it."""

import json
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000
SECONDS = 9.0
TEXTS = ("a dog", "two lamps")


def write_wav(path: Path, samples: "np.ndarray", rate: int = RATE) -> None:
    """Write samples (N,) or (N, channels) of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1 if samples.ndim == 1 else samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


def entry(root: Path, video: str, **meta: Any) -> dict[str, Any]:
    """Write a video's sound below a manifest's folder; returns its line, with two segments."""
    noise = np.random.default_rng([*video.encode()]).normal(0, 3000, round(SECONDS * RATE))
    write_wav(root / video / "audio.wav", noise)
    segments = [
        {"start": 0.5, "end": 2.0, "text": TEXTS[0]},
        {"start": 2.5, "end": 3.5, "text": TEXTS[1]},
    ]
    told = {"audio_duration": SECONDS, "segments": segments, "language": "en"}
    told |= {"transcript": " ".join(TEXTS)}
    return {
        "id": video,
        "frames_dir": None,
        "audio": f"{video}/audio.wav",
        "meta": told | meta,
    }


def write_manifest(root: Path, videos: Iterable[str]) -> Path:
    """Write a manifest of such videos, and their sound beside it."""
    lines = [json.dumps(entry(root, video)) + "\n" for video in videos]
    path = root / "manifest_v1.jsonl"
    path.write_text("".join(lines))
    return path
