"""musubi-tuner: for each split a line of JSON for each video, and the TOML that names them.

Read by musubi-tuner, src/musubi_tuner/dataset/config_utils.py (the keys of the TOML) and
datasources.py (VideoJsonlDatasource: `video_path` and `caption`). A relative path is looked for
from where it is started before all; so paths are whole. What it caches lies beside this folder.
"""

from spark_trainer.exports import toml
from spark_trainer.exports.base import ONE, Format
from spark_trainer.exports.dataset import DataSet


def write(data: DataSet) -> None:
    """Write the lines and the TOML of each split."""
    chosen = data.settings
    for split in data.splits:
        with data.lines(f"{split}.jsonl") as add:
            for clip in data.clips(split):
                add({"video_path": data.placed(clip), "caption": clip.text})
        general = {"resolution": list(chosen.resolution), "batch_size": 1, "enable_bucket": True}
        videos = {
            "video_jsonl_file": f"{data.folder}/{split}.jsonl",
            "cache_directory": f"{data.folder}-cache/{split}",
            "target_frames": [chosen.num_frames],
            "frame_extraction": "head",
        }
        sections = ("[general]\n", toml.assigned(general), "\n[[datasets]]\n")
        data.write(f"{split}.toml", "".join([*sections, toml.assigned(videos)]))


def loading(data: DataSet) -> str:
    """Return the flag that loads it."""
    return f"```\n--dataset_config {data.folder}/train.toml\n```"


FORMAT = Format(
    read_by="musubi-tuner",
    media=("link", "copy", "none"),
    paths=True,
    texts=ONE,
    options=("num_frames", "resolution"),
    write=write,
    loading=loading,
)
