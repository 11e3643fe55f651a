"""LLaVA's conversations, an array of JSON for each split; ShareGPT's roles `human` and `gpt`.

Read by LLaVA-NeXT, llava/train/train.py, LazySupervisedDataset: `--data_path` is the array,
`--video_folder` what `video` is joined to, and `<image>` stands for the video in the first turn.
"""

from spark_trainer.exports.base import SEVERAL, Format
from spark_trainer.exports.dataset import DataSet


def write(data: DataSet) -> None:
    """Write an array of each split."""
    for split in data.splits:
        with data.array(f"{split}.json") as add:
            for clip in data.clips(split):
                video = data.place(clip)
                for number, (prompt, answer) in enumerate(clip.texts):
                    asked = f"{data.settings.video_token}\n{prompt}"
                    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
                    name = f"{clip.id}-{number}" if len(clip.texts) > 1 else clip.id
                    add({"id": name, "video": video, "conversations": turns})


def loading(data: DataSet) -> str:
    """Return the flags that load it."""
    return f"```\n--data_path {data.folder}/train.json --video_folder {data.folder}\n```"


FORMAT = Format(
    read_by="LLaVA-NeXT, LLaVA-OneVision, LLaVA-Video; Video-LLaVA and Qwen by `video_token`",
    media=("link", "copy", "none"),
    paths=True,
    texts=SEVERAL,
    tags=("<image>", "<video>"),
    options=("video_token",),
    write=write,
    loading=loading,
)
