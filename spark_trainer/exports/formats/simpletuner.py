"""SimpleTuner: for each split a folder of videos and texts, and the JSON that names it.

Read by SimpleTuner, documentation/DATALOADER.md; simpletuner/helpers/prompts.py takes each line of
`clip.txt` for a caption of its own, so a caption is on one line; helpers/training/__init__.py has
the endings. What it caches lies beside this folder.
"""

import json
from typing import Any

from spark_trainer.exports.base import ONE, Format
from spark_trainer.exports.dataset import DataSet


def write(data: DataSet) -> None:
    """Write the folder and the list of each split."""
    for split in data.splits:
        for clip in data.clips(split):
            data.place(clip)
            data.write(f"{split}/{clip.name}.txt", " ".join(clip.text.split()))
        listed = [_videos(data, split), _texts(data, split)]
        data.write(f"{split}.json", json.dumps(listed, indent=2, ensure_ascii=False) + "\n")


def loading(data: DataSet) -> str:
    """Return the flag that loads it."""
    return f"```\n--data_backend_config={data.folder}/train.json\n```"


def _videos(data: DataSet, split: str) -> dict[str, Any]:
    width, height = data.settings.resolution
    frames = data.settings.num_frames
    return {
        "id": split,
        "type": "local",
        "dataset_type": "video",
        "instance_data_dir": f"{data.folder}/{split}",
        "caption_strategy": "textfile",
        "metadata_backend": "discovery",
        "resolution": min(width, height),
        "resolution_type": "pixel",
        "minimum_image_size": 0,
        "crop": False,
        "repeats": 0,
        "cache_dir_vae": f"{data.folder}-cache/{split}/vae",
        "video": {"num_frames": frames, "min_frames": frames},
    }


def _texts(data: DataSet, split: str) -> dict[str, Any]:
    return {
        "id": f"{split}-texts",
        "type": "local",
        "dataset_type": "text_embeds",
        "default": True,
        "cache_dir": f"{data.folder}-cache/{split}/texts",
    }


FORMAT = Format(
    read_by="SimpleTuner",
    media=("link", "copy"),
    texts=ONE,
    endings=frozenset((".mp4", ".avi", ".gif", ".mov", ".webm")),
    options=("num_frames", "resolution"),
    write=write,
    loading=loading,
)
