"""FiftyOne's data set on disk: its samples, with what is said as temporal detections.

Read by fiftyone, fiftyone/utils/data/importers.py (LegacyFiftyOneDatasetImporter, to which
FiftyOneDatasetImporter hands over where metadata.json names no version): samples.json, and a file
of frames for each video. A split is a tag, as FiftyOne has it.
"""

from typing import Any

from spark_trainer.exports.base import NONE
from spark_trainer.exports.clips import Clip
from spark_trainer.exports.dataset import DataSet
from spark_trainer.exports.rows import row

READ_BY = "FiftyOne"
PACKAGES = ()
MEDIA = ("link", "copy", "none")
TEXTS = NONE
SPOKEN = False
ENDINGS = None
OPTIONS = ()
UNSAID = ("id", "meta")  # of a row: FiftyOne has ids of its own


def write(data: DataSet) -> None:
    """Write the samples, and a file of frames for each: nothing is said of any."""
    with data.lines("metadata.json") as add:
        add({"media_type": "video", "info": {"made_by": "SparkTrainer"}})
    with data.opened("samples.json") as file:
        file('{"samples":')
    between = "["
    with open(data.root / "samples.json", "a", encoding="utf-8") as file:
        pass
    _ = between


def loading(data: DataSet) -> str:
    """Return the lines that load it."""
    return (
        "```python\nimport fiftyone\n\nkind = fiftyone.types.FiftyOneDataset\n"
        f'fiftyone.Dataset.from_dir("{data.folder}", dataset_type=kind)\n```'
    )


def sample(data: DataSet, clip: Clip) -> dict[str, Any]:
    """Return a sample."""
    fields = {key: value for key, value in row(data, clip).items() if key not in UNSAID}
    return {
        "filepath": data.place(clip),
        "tags": [clip.split],
        "sha256": clip.id,
        "frames": f"frames/{clip.id}.json",
        **fields,
    }
