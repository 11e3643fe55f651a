"""LLaMA-Factory's ShareGPT: an array of JSON for each split, and dataset_info.json that names them.

Read by LLaMA-Factory, src/llamafactory/data/parser.py and converter.py: `dataset_dir` is the
folder of dataset_info.json, and `media_dir`, the same without being set, what `videos` are below.
"""

from spark_trainer.exports.base import SEVERAL
from spark_trainer.exports.dataset import DataSet

READ_BY = "LLaMA-Factory"
PACKAGES = ()
MEDIA = ("link", "copy", "none")
PATHS = True
TEXTS = SEVERAL
SPOKEN = False
ENDINGS = None
OPTIONS = ()
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
