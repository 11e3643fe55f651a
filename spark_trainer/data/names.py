"""Names of the videos' folders where these are named after the source file."""

import unicodedata
from collections import Counter

from spark_trainer.data.layout import OURS

NAME_BYTES = 255  # that a file system allows in a name


def folders(stems: dict[str, str]) -> dict[str, str]:
    """Choose a folder for each video: its file's name, or that and the start of the hash.

    The hash is added where several videos, or a file of this project, have the same name. Names
    count as the same if any file system takes them for the same: in upper and lower case, in both
    spellings of an umlaut, with dots and spaces at the end.

    Args:
        stems: hash -> file name without its ending.

    Returns:
        Hash -> folder.
    """
    chosen = dict(stems)
    while True:
        taken = Counter(map(_folded, [*chosen.values(), *OURS]))
        shared = [h for h in chosen if chosen[h] == stems[h] and taken[_folded(chosen[h])] > 1]
        if not shared:
            return chosen
        chosen |= {h: _with_hash(stems[h], h) for h in shared}


def _folded(name: str) -> str:
    """Return one spelling for all names that some file system doesn't tell apart."""
    plain = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFC", plain).rstrip(". ")


def _with_hash(stem: str, video_hash: str) -> str:
    end = f"-{video_hash[:12]}"
    raw = stem.encode("utf-8", "surrogateescape")[: NAME_BYTES - len(end)]
    return raw.decode("utf-8", "surrogateescape") + end
