"""diffusion-pipe: for each split a folder of videos and texts, and the TOML that names it.

Read by diffusion-pipe, utils/dataset.py (DirectoryDataset: `clip.txt` is the caption of `clip.mp4`)
and examples/dataset.toml. It keeps its cache in the folder of the videos.
"""

from spark_trainer.exports import toml
from spark_trainer.exports.base import ONE, Format
from spark_trainer.exports.dataset import DataSet

# Of imageio's video_extensions, those of files that hold pictures and sound.
ENDINGS = frozenset(
    (
        *(".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".m2t", ".m2ts", ".m2v", ".m4v"),
        *(".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogv", ".rm"),
        *(".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m"),
    )
)


def write(data: DataSet) -> None:
    """Write the folder and the TOML of each split."""
    for split in data.splits:
        for clip in data.clips(split):
            data.place(clip)
            data.write(f"{split}/{clip.name}.txt", clip.text)
        sizes = {
            "resolutions": [list(data.settings.resolution)],
            "enable_ar_bucket": True,
            "min_ar": 0.5,
            "max_ar": 2.0,
            "num_ar_buckets": 7,
            "frame_buckets": [1, data.settings.num_frames],  # it always wants the first, of images
        }
        videos = {"path": f"{data.folder}/{split}", "num_repeats": 1}
        text = f"{toml.assigned(sizes)}\n[[directory]]\n{toml.assigned(videos)}"
        data.write(f"{split}.toml", text)


def loading(data: DataSet) -> str:
    """Return the lines of its own TOML that load it."""
    lines = f"dataset = '{data.folder}/train.toml'\n"
    if "validation" in data.splits:
        held_out = f"name = 'validation', config = '{data.folder}/validation.toml'"
        lines += f"eval_datasets = [{{{held_out}}}]\n"
    return f"```toml\n{lines}```"


FORMAT = Format(
    read_by="diffusion-pipe",
    media=("link", "copy"),
    texts=ONE,
    endings=ENDINGS,
    options=("num_frames", "resolution"),
    write=write,
    loading=loading,
)
