"""A text file for each video, of the same name: what many trainers look for beside videos."""

from spark_trainer.exports.base import ONE, Format
from spark_trainer.exports.dataset import DataSet


def write(data: DataSet) -> None:
    """Write the files of each split."""
    for split in data.splits:
        for clip in data.clips(split):
            data.place(clip)
            data.write(f"{split}/{clip.name}.txt", f"{clip.text}\n")


def loading(data: DataSet) -> str:
    """Return where it is."""
    return f"Each folder, such as `{data.splits[0]}`, holds the texts of a split."


FORMAT = Format(
    read_by="whoever takes `clip.txt` for the caption of `clip.mp4`",
    media=("none", "link", "copy"),
    texts=ONE,
    write=write,
    loading=loading,
)
