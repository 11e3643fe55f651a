"""ms-swift's messages, a line of JSON for each sample.

Read by ms-swift, swift/dataset/preprocessor/core.py (MessagesPreprocessor): `messages` with roles
`user` and `assistant`, `videos` with a path for each `<video>`. Paths are whole ones, because a
relative one is looked for from where ms-swift is started.
"""

from spark_trainer.exports.base import SEVERAL, TAGS, Format
from spark_trainer.exports.dataset import DataSet


def write(data: DataSet) -> None:
    """Write a file of lines of each split."""
    for split in data.splits:
        with data.lines(f"{split}.jsonl") as add:
            for clip in data.clips(split):
                video = data.placed(clip)
                for prompt, answer in clip.texts:
                    turns = [("user", f"<video>{prompt}"), ("assistant", answer)]
                    messages = [{"role": role, "content": content} for role, content in turns]
                    add({"messages": messages, "videos": [video]})


def loading(data: DataSet) -> str:
    """Return the flags that load it."""
    held_out = f" --val_dataset {data.folder}/validation.jsonl"
    known = held_out if "validation" in data.splits else ""
    return f"```\nswift sft --dataset {data.folder}/train.jsonl{known}\n```"


FORMAT = Format(
    read_by="ms-swift",
    media=("link", "copy", "none"),
    paths=True,
    texts=SEVERAL,
    tags=TAGS,
    write=write,
    loading=loading,
)
