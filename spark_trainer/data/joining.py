"""From parts of a manifest to a manifest: that of the workflow, and the own one of a run."""

import os
import shutil
from pathlib import Path
from typing import Any

from spark_trainer.data import files, manifest, parts
from spark_trainer.system import log


def join(listed: Path, sources: Path, accepted: Path, refused: Path) -> dict[str, int]:
    """Join the parts into a manifest and a list of rejected videos, both sorted by id.

    Args:
        listed: the list of the parts; thousands of them would not fit on a command line.
        sources: the snapshot of the video folders that says which videos are here.
        accepted: the manifest to write.
        refused: the list of rejected videos to write.

    Returns:
        Counts: videos, rejected.

    Raises:
        Broken: a part is not whole, and is removed, so that the next call makes it again.
    """
    files.sweep(accepted.parent)  # what an attempt of the same build left, if it was killed
    counts = {"videos": 0, "rejected": 0}
    try:
        with manifest.writing(accepted) as accept, manifest.writing(refused) as refuse:
            for entry, names in parts.merged(listed, sources):
                if "reason" in entry:
                    refuse(joined(entry, names))
                    counts["rejected"] += 1
                else:
                    accept(joined(entry, names))
                    counts["videos"] += 1
    except files.Broken as error:
        error.path.unlink(missing_ok=True)
        raise
    log.logger.info("manifest: %(videos)d videos, %(rejected)d rejected", counts)
    return counts


def collect(data: Path, sources: Path | None, accepted: Path, refused: Path) -> None:
    """Write a manifest of one's own, which stays what it is whatever is built later.

    Args:
        data: a manifest, or the list of the parts of one.
        sources: the snapshot of the video folders that a list of parts is of; None of a manifest.
        accepted: the manifest to write.
        refused: the list of rejected videos to write, where parts are joined.

    Raises:
        Broken: the manifest has lines that are none, or as `join`.
    """
    if sources is None:
        for _ in manifest.read(data):  # what is wrong in it is named by its own name
            pass
        shutil.copyfile(data, accepted)
    else:
        join(data, sources, accepted, refused)


def joined(entry: manifest.Entry, names: list[str]) -> manifest.Entry:
    """Return the line of a video in the manifest, or in the list of rejected ones.

    Args:
        entry: what its records say; see `steps.manifest.line`.
        names: of the files with its content.
    """
    meta: dict[str, Any] = named_sources(names) | entry["meta"]
    if "reason" in entry:
        return {key: entry[key] for key in ("id", "reason", "step")} | meta
    return entry | {"meta": meta}


def named_sources(names: list[str]) -> dict[str, Any]:
    """Return what `meta` says of files: paths below the searched folder, as text."""
    shown = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in names]
    return {"source_path": shown[0], "sources": shown}
