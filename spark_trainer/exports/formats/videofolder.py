"""Hugging Face's VideoFolder: a folder for each split, with metadata.jsonl beside the videos.

Read by datasets, src/datasets/packaged_modules/folder_based_builder/folder_based_builder.py: the
column `file_name` is a path below the folder of its metadata.jsonl and must not leave it; types
come from the first 10 MB, and all splits must have the same.
"""

from spark_trainer.exports.base import Format
from spark_trainer.exports.dataset import DataSet
from spark_trainer.exports.rows import row


def write(data: DataSet) -> None:
    """Write metadata.jsonl of each split."""
    for split in data.splits:
        with data.lines(f"{split}/metadata.jsonl") as add:
            for clip in data.clips(split):
                data.place(clip)
                add({"file_name": clip.file} | row(data, clip))


def loading(data: DataSet) -> str:
    """Return the lines that load it."""
    return (
        "```python\nfrom datasets import Video, load_dataset\n\n"
        f'data = load_dataset("videofolder", data_dir="./{data.folder.name}")\n'
        'data = data.cast_column("video", Video(decode=False))  # a path; frames need torchcodec\n'
        "```"
    )


FORMAT = Format(
    read_by="Hugging Face `datasets` (VideoFolder)",
    media=("link", "copy"),
    paths=True,
    write=write,
    loading=loading,
)
