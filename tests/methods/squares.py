"""Clips of coloured squares, and a model that is to say their colour: a task of a minute."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 40),
}
SIDE = 28
MOMENTS = ["0 to 2", "2 to 4", "4 to 6"]  # seconds, of clips with a frame a second

Said = Callable[[str, int], str]


def write(
    folder: Path, count: int, said: Said | None = None, dark: bool = False, first: int = 0
) -> Path:
    """Write the manifest of so many clips of two frames.

    Args:
        folder: of the data.
        count: clips; their shades and places differ.
        said: what the manifest says of a colour and a number; without it the colour.
        dark: all frames are black.
        first: the number of the first, by which clips differ.
    """
    entries = []
    for number in range(first, first + count):
        name = list(COLOURS)[number % len(COLOURS)]
        caption = said(name, number) if said else name
        entries.append(_clip(folder, f"square {number}", [name] * 2, dark, caption, colour=name))
    return _manifest(folder, entries)


def write_moments(folder: Path, count: int, said: Said | None = None, first: int = 0) -> Path:
    """Write the manifest of so many clips of six frames, in which a blue square is red for 2 s.

    Args:
        folder: of the data.
        count: clips; their shades and places differ.
        said: what the manifest says of a moment and a number; without it the moment.
        first: the number of the first, by which clips differ.
    """
    entries = []
    for number in range(first, first + count):
        at = number % len(MOMENTS)
        seen = ["red" if frame // 2 == at else "blue" for frame in range(6)]
        moment = MOMENTS[at]
        caption = said(moment, number) if said else moment
        told = {"moment": moment, "duration": 6.0}
        entries.append(_clip(folder, f"moment {number}", seen, False, caption, **told))
    return _manifest(folder, entries)


def _clip(
    folder: Path, name: str, seen: Sequence[str], dark: bool, caption: str, **told: Any
) -> dict[str, Any]:
    """Write a clip, each frame with a square of a colour; returns its entry of the manifest."""
    video = hashlib.sha256(name.encode()).hexdigest()
    (folder / video / "frames").mkdir(parents=True)
    shift = int(video[:2], 16) % 24 - 12
    for frame, colour in enumerate(seen, 1):
        image = Image.new("RGB", (SIDE, SIDE), (90 + shift, 90, 90 - shift))
        shade = tuple(min(255, max(0, value + shift)) for value in COLOURS[colour])
        corner = (int(video[2], 16) % 8 + min(frame, 2), int(video[3], 16) % 8)
        image.paste(Image.new("RGB", (18, 18), shade), corner)
        shown = Image.new("RGB", (SIDE, SIDE)) if dark else image
        shown.save(folder / video / f"frames/frame_{frame:06d}.png")
    meta = {"caption": caption, "frame_times": [float(at) for at in range(len(seen))]}
    return {"id": video, "frames_dir": f"{video}/frames", "audio": None, "meta": meta | told}


def _manifest(folder: Path, entries: list[dict[str, Any]]) -> Path:
    entries.sort(key=lambda entry: str(entry["id"]))
    path = folder / "manifest_v1.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path
