"""Where what is shown comes from: who made the texts, and which run comes from which."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from spark_trainer.runs.folder import RunFolder
from spark_trainer.store import lineage


def told(makers: Counter[tuple[str, ...]], folders: Sequence[RunFolder]) -> dict[str, Any]:
    """Return who made the manifest's texts, and all that is known of each run's origin.

    Args:
        makers: what was made, by whom, model, revision and prompt -> videos.
        folders: the runs.
    """
    runs = lineage.Runs(folders)
    return {
        "makers": [[*made, count] for made, count in makers.most_common()],
        "links": [asdict(link) for link in runs.links],
        "runs": [_run(lineage.of_run(run, runs)) for run in folders],
    }


def _run(said: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of what is known of a run what the page shows elsewhere."""
    return {key: value for key, value in said.items() if key not in ("before", "after", "folder")}


def seen_by(folders: Sequence[RunFolder]) -> dict[str, list[tuple[int, str]]]:
    """Return video -> the number of each run that saw it, and the split."""
    found = defaultdict[str, list[tuple[int, str]]](list)
    for number, run in enumerate(folders):
        videos = lineage.described(run)["videos"]
        for video, split in lineage.splits(run, videos).items():
            found[video].append((number, split))
    return dict(found)
