"""A folder that has lost all of its videos: it may not be mounted."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from spark_trainer.config import Config, ConfigError
from spark_trainer.data.hashing import Cache
from spark_trainer.data.layout import Layout
from spark_trainer.data.search import Search


def refuse(
    config: Config,
    layout: Layout,
    search: Search,
    cache: Cache,
    left: set[str],
    hashes: dict[str, str],
) -> None:
    """Refuse a folder that has lost all of its videos: it may not be mounted.

    Args:
        config: the validated configuration.
        layout: paths below `output_dir`.
        search: what was found.
        cache: the hashes that the last call knew.
        left: those of the videos that are here, or forgotten.
        hashes: of each file that was found.

    Raises:
        ConfigError: a folder has, and `index.allow_empty` is not set.
    """
    if config.index.allow_empty:
        return
    for folder in config.video_dirs:
        below = os.path.join(folder, "")
        if any(path.startswith(below) or path == str(folder) for path in hashes):
            continue
        had = [row[2] for path, row in cache.items() if path.startswith(below)]
        had = [each for each in had if each not in left]
        if had:
            _refuse(search, f"no video in {folder}, which held {len(had):,} in the last build")
    if not left and (cache or _entries(layout.manifest)):
        places = ", ".join(map(str, config.video_dirs))
        _refuse(search, f"no video in {places}, but {config.output_dir} was built from some")


def _refuse(search: Search, found: str) -> None:
    advice = "; is it mounted? `index.allow_empty: true` lets the manifest lose them"
    for line in replace(search, empty=[]).notes():
        print(line, file=sys.stderr)
    raise ConfigError(f"video_dir: {found}{advice}")


def _entries(manifest: Path) -> bool:
    return manifest.is_file() and manifest.stat().st_size > 0
