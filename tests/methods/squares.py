"""Clips of coloured squares, and a model that is to say their colour: a task of a minute."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 40),
}
SIDE = 28


def write(folder: Path, count: int, said: Callable[[str, int], str] | None = None) -> Path:
    """Write the manifest of so many clips of two frames.

    Args:
        folder: of the data.
        count: clips; their shades and places differ.
        said: what the manifest says of a colour and a number; without it the colour.
    """
    entries = []
    for number in range(count):
        name = list(COLOURS)[number % len(COLOURS)]
        video = hashlib.sha256(f"square {number}".encode()).hexdigest()
        (folder / video / "frames").mkdir(parents=True)
        shift = int(video[:2], 16) % 24 - 12
        for frame in (1, 2):
            image = Image.new("RGB", (SIDE, SIDE), (90 + shift, 90, 90 - shift))
            colour = tuple(min(255, max(0, value + shift)) for value in COLOURS[name])
            corner = (int(video[2], 16) % 8 + frame, int(video[3], 16) % 8)
            image.paste(Image.new("RGB", (18, 18), colour), corner)
            image.save(folder / video / f"frames/frame_{frame:06d}.png")
        caption = said(name, number) if said else name
        meta = {"caption": caption, "colour": name, "frame_times": [0.0, 1.0]}
        entries.append({"id": video, "frames_dir": f"{video}/frames", "audio": None, "meta": meta})
    entries.sort(key=lambda entry: str(entry["id"]))
    path = folder / "manifest_v1.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path
