"""WebVTT: what is said, with its times, in a file for each video."""

from spark_trainer.exports import subtitles
from spark_trainer.exports.base import NONE
from spark_trainer.exports.dataset import DataSet

READ_BY = "browsers and players"
PACKAGES = ()
MEDIA = ("none", "link", "copy")
PATHS = False
TEXTS = NONE
SPOKEN = True
ENDINGS = None
OPTIONS = ("each_word",)


def write(data: DataSet) -> None:
    """Write the files of each split."""
    subtitles.write(data, "vtt", subtitles.as_vtt)


def loading(data: DataSet) -> str:
    """Return where it is."""
    return subtitles.loading(data, "vtt")
