"""Where what is shown comes from: who made the texts, and which run comes from which."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spark_trainer.runs import record
from spark_trainer.runs.folder import RunFolder
from spark_trainer.store import lineage

if TYPE_CHECKING:
    from spark_trainer.report.page.runs import ShownRun

ELSEWHERE = ("before", "after", "folder")  # what the page shows at another place


def told(makers: Counter[tuple[str, ...]], runs: "Sequence[ShownRun]") -> dict[str, Any]:
    """Return who made the manifest's texts, and all that is known of each run's origin.

    Args:
        makers: what was made, by whom, model, revision and prompt -> videos.
        runs: those that are shown.
    """
    links = lineage.Runs(run.found.folder for run in runs).links
    return {
        "makers": [[*made, count] for made, count in makers.most_common()],
        "links": [asdict(link) for link in links],
        "runs": [run.origin for run in runs],
    }


def of_run(run: RunFolder) -> dict[str, Any]:
    """Return what is known of a run alone."""
    said = lineage.of_run(run, lineage.Runs([run]))
    return {key: value for key, value in said.items() if key not in ELSEWHERE}


def splits(run: RunFolder) -> dict[str, str]:
    """Return hash -> the split that a run has a video in."""
    return lineage.splits(run, record.described(run)["videos"])
