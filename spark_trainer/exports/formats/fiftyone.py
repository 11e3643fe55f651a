"""FiftyOne's data set on disk: its samples, with what is said as temporal detections.

Read by fiftyone, fiftyone/utils/data/importers.py (LegacyFiftyOneDatasetImporter, to which
FiftyOneDatasetImporter hands over where metadata.json names no version): samples.json, and a file
of frames for each video. A split is a tag, as FiftyOne has it.
"""

import math
from collections.abc import Iterator
from typing import Any

from spark_trainer.exports.base import Format
from spark_trainer.exports.clips import Clip
from spark_trainer.exports.dataset import DataSet
from spark_trainer.exports.rows import row

UNSAID = ("id", "meta")  # of a row: FiftyOne has ids of its own


def write(data: DataSet) -> None:
    """Write the samples, and a file of frames for each, which says nothing of any frame."""
    with data.lines("metadata.json") as add:
        add({"media_type": "video"})
    with data.array("samples.json", key="samples") as add:
        for split in data.splits:
            for clip in data.clips(split):
                frames = f"frames/{clip.id}.json"
                data.write(frames, '{"frames":{}}\n')
                add(_sample(data, clip) | {"frames": frames})


def loading(data: DataSet) -> str:
    """Return the lines that load it."""
    return (
        "```python\nimport fiftyone\n\nkind = fiftyone.types.FiftyOneDataset\n"
        f'fiftyone.Dataset.from_dir("{data.folder}", dataset_type=kind)\n```'
    )


def _sample(data: DataSet, clip: Clip) -> dict[str, Any]:
    fields = {key: value for key, value in row(data, clip).items() if key not in UNSAID}
    said = [*_said(clip)]
    if said:
        fields["speech"] = {"_cls": "TemporalDetections", "detections": said}
    return fields | {"filepath": data.place(clip), "tags": [clip.split], "sha256": clip.id}


def _said(clip: Clip) -> Iterator[dict[str, Any]]:
    """Yield what is said, with the first and last frame of it, counted from 1."""
    fps = clip.meta.get("fps")
    for segment in (clip.meta.get("segments") or ()) if fps else ():
        if segment.get("text") and None not in (segment.get("start"), segment.get("end")):
            first = math.floor(segment["start"] * fps) + 1
            support = [first, max(first, math.ceil(segment["end"] * fps))]
            yield {"_cls": "TemporalDetection", "label": segment["text"], "support": support}


FORMAT = Format(
    read_by="FiftyOne",
    media=("link", "copy", "none"),
    paths=True,
    write=write,
    loading=loading,
)
