"""WebDataset: shards of tar, in which the files of a video have one name and several endings.

Read by webdataset, src/webdataset/tariterators.py (base_plus_ext: what follows the first dot is the
type), and by datasets, src/datasets/packaged_modules/webdataset/webdataset.py, which wants the same
types in the first five videos. A member has no time and no owner.
"""

import io
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from spark_trainer.data.files import canonical_json
from spark_trainer.exports.base import ONE, Format
from spark_trainer.exports.clips import Clip
from spark_trainer.exports.dataset import DataSet
from spark_trainer.exports.rows import row

NAMELESS = ".video"  # of a file without a plain ending
Member = tuple[str, BinaryIO, int]  # name, content, bytes


def write(data: DataSet) -> None:
    """Write the shards of each split."""
    for split in data.splits:
        (data.root / split).mkdir()
        shards, full = 0, data.settings.shard_mb * 10**6
        file = None
        for clip in data.clips(split):
            if file is None or file.offset >= full:
                if file:
                    file.close()
                path = data.root / split / f"{shards:06d}.tar"
                file = tarfile.open(path, "x", format=tarfile.GNU_FORMAT)  # noqa: SIM115
                shards += 1
            for name, content, size in _members(data, clip):
                with content:
                    file.addfile(_info(name, size), content)
        if file:
            file.close()


def loading(data: DataSet) -> str:
    """Return the lines that load it."""
    last = max(path.stem for path in (data.root / "train").glob("*.tar")) if _trains(data) else "0"
    shards = f"./{data.folder.name}/train/{{000000..{last}}}.tar"
    mixed = ""
    if len(data.chosen.endings) > 1 and data.settings.media == "copy":
        kinds = ", ".join(f"{end or NAMELESS} {n}" for end, n in data.chosen.endings.most_common())
        mixed = f"\n\nThe videos are of several kinds ({kinds}): `datasets` reads only one."
    return (
        "```python\nimport webdataset\nfrom datasets import load_dataset\n\n"
        f'webdataset.WebDataset("{shards}", shardshuffle=False)\n'
        f'load_dataset("./{data.folder.name}")\n```{mixed}'
    )


def _trains(data: DataSet) -> bool:
    return "train" in data.splits


def _members(data: DataSet, clip: Clip) -> Iterator[Member]:
    """Yield the files of a video."""
    told = canonical_json(row(data, clip)).encode()
    yield f"{clip.name}.json", io.BytesIO(told), len(told)
    if data.settings.media == "copy":
        name = clip.file if clip.file != clip.name else f"{clip.name}{NAMELESS}"
        yield name, open(clip.source, "rb"), clip.source.stat().st_size  # noqa: SIM115
    data.advance()
    text = clip.text.encode()
    yield f"{clip.name}.txt", io.BytesIO(text), len(text)


def _info(name: str, size: int) -> tarfile.TarInfo:
    """Return a member's head: its owner and time are 0 unless they are set."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info


FORMAT = Format(
    read_by="webdataset, Hugging Face `datasets`",
    media=("copy", "none"),
    texts=ONE,
    options=("shard_mb",),
    write=write,
    loading=loading,
)
