"""LTX-2's trainer: a line of JSON for each video, with `caption` and `media_path`.

Read by LTX-2, packages/ltx-trainer/scripts/process_dataset.py, process_videos.py and
process_captions.py: a CSV, an array or lines of JSON; paths are below the file's own folder. Lines,
because a CSV is read by pandas, which takes captions such as `None` for missing ones.
"""

from spark_trainer.exports.base import ONE, Format
from spark_trainer.exports.dataset import DataSet


def write(data: DataSet) -> None:
    """Write a file of lines of each split."""
    for split in data.splits:
        with data.lines(f"{split}.jsonl") as add:
            for clip in data.clips(split):
                add({"caption": clip.text, "media_path": data.place(clip)})


def loading(data: DataSet) -> str:
    """Return the command that loads it; without `--output-dir` it writes into this folder."""
    return (
        f"```\npython scripts/process_dataset.py {data.folder}/train.jsonl"
        f" --output-dir {data.folder}-cache/train …\n```"
    )


FORMAT = Format(
    read_by="the trainer of LTX-2",
    media=("link", "copy"),
    paths=True,
    texts=ONE,
    write=write,
    loading=loading,
)
