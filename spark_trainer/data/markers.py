"""The markers on disk: which shards of videos a step is done for."""

from collections import defaultdict
from pathlib import Path

from spark_trainer.data.layout import Layout


class Markers(dict[str, dict[tuple[str, str], list[Path]]]):
    """step -> (bits, fingerprint) -> markers on disk, listed once per step."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def __missing__(self, step: str) -> dict[tuple[str, str], list[Path]]:
        markers: dict[tuple[str, str], list[Path]] = defaultdict(list)
        folder = self._layout.marker_folder(step)
        for path in sorted(folder.glob("b*.jsonl")):
            bits, _, fingerprint, _ = path.name.split(".")
            markers[bits.removeprefix("b"), fingerprint].append(path)
        self[step] = markers
        return markers
