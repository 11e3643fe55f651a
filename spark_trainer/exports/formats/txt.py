"""A text file for each video, of the same name: what many trainers look for beside videos."""

from spark_trainer.exports.base import ONE
from spark_trainer.exports.dataset import DataSet

READ_BY = "whoever takes `clip.txt` for the caption of `clip.mp4`"
PACKAGES = ()
MEDIA = ("none", "link", "copy")
PATHS = False
TEXTS = ONE
SPOKEN = False
ENDINGS = None
OPTIONS = ()


def write(data: DataSet) -> None:
    """Write the files of each split."""
    for split in data.splits:
        for clip in data.clips(split):
            data.place(clip)
            data.write(f"{split}/{clip.name}.txt", f"{clip.text}\n")


def loading(data: DataSet) -> str:
    """Return where it is."""
    return f"Each folder, such as `{data.splits[0]}`, holds the texts of a split."
