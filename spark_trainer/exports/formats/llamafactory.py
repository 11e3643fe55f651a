"""LLaMA-Factory's ShareGPT: an array of JSON for each split, and dataset_info.json that names them.

Read by LLaMA-Factory, src/llamafactory/data/parser.py and converter.py: `dataset_dir` is the
folder of dataset_info.json, and `media_dir`, the same without being set, what `videos` are below.
"""

from spark_trainer.exports.base import SEVERAL, TAGS, Format
from spark_trainer.exports.dataset import DataSet

COLUMNS = {"messages": "conversations", "videos": "videos"}


def write(data: DataSet) -> None:
    """Write an array of each split, and their list."""
    for split in data.splits:
        with data.array(f"{split}.json") as add:
            for clip in data.clips(split):
                video = data.place(clip)
                for prompt, answer in clip.texts:
                    asked = {"from": "human", "value": f"<video>{prompt}"}
                    turns = [asked, {"from": "gpt", "value": answer}]
                    add({"conversations": turns, "videos": [video]})
    with data.lines("dataset_info.json") as add:
        kind = {"formatting": "sharegpt", "columns": COLUMNS}
        add({split: {"file_name": f"{split}.json", **kind} for split in data.splits})


def loading(data: DataSet) -> str:
    """Return the keys that load it."""
    held_out = "eval_dataset: validation\n" if "validation" in data.splits else ""
    return f"```yaml\ndataset_dir: {data.folder}\ndataset: train\n{held_out}```"


FORMAT = Format(
    read_by="LLaMA-Factory",
    media=("link", "copy", "none"),
    paths=True,
    texts=SEVERAL,
    tags=TAGS,
    write=write,
    loading=loading,
)
