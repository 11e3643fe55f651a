"""What a build will leave out of reach, as far as it can be told without reading every record."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from spark_trainer import steps
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.runs.folder import RunFolder
from spark_trainer.steps.base import word
from spark_trainer.store.costs import Costs
from spark_trainer.store.last_build import LastBuild
from spark_trainer.store.reach import Reach
from spark_trainer.store.sizes import Size


@dataclass(frozen=True)
class Unreachable:
    """Something that nothing will reach after a build; `gc` removes it.

    `bytes` is estimated where `paths` is empty.
    """

    what: str
    paths: Sequence[str]
    bytes: int


def unreachable(
    graph: VideoGraph, last: LastBuild, runs: Sequence[RunFolder], costs: Costs
) -> Iterator[Unreachable]:
    """Yield what no manifest, no run and not this configuration will reach.

    Args:
        graph: what is asked for.
        last: what the manifest was built from.
        runs: every run's folder that is known.
        costs: sizes of a video's results.
    """
    reach = Reach([graph], runs, built=True)
    yield from _removed(reach, last.removed(graph))
    for name in _switched_off(reach):
        made_by = steps.load(name)
        records = [made_by.path(graph.layout, video) for video in graph.index.videos.values()]
        made = sum(record.exists() for record in records)
        if made:
            size = round(made * (costs.bytes_of(name) or 0))
            yield Unreachable(f"results of {name} of {made:,} videos", (), size)
    for encoders in sorted(graph.layout.encoded("").glob("*/")):
        if encoders.absolute() not in reach.encoders:
            said = "encoded for no run any more"
            yield Unreachable(said, (str(encoders),), Size.of([encoders]).bytes)


def _switched_off(reach: Reach) -> list[str]:
    """Name the steps whose settings were noted here, and which are not asked for."""
    noted = reach.layout.settings("", "").parent
    paths = (path.relative_to(noted) for path in noted.rglob("*.json"))
    found = {path.with_name(path.stem.rpartition(".")[0]).as_posix() for path in paths}
    known = {name for name in found if word(name) in steps.STEPS}
    return sorted(known - reach.fingerprints.keys())


def _removed(reach: Reach, removed: Mapping[str, Sequence[str]]) -> Iterator[Unreachable]:
    """Yield the folders of removed videos that no run names either.

    A folder that is named after a file may be another video's by now, and is none of these.
    """
    folders = {reach.layout.root / video[:2] / video: names for video, names in removed.items()}
    gone = [one for one in folders if one.is_dir() and not reach.has_folder(one)]
    if gone:
        what = folders[gone[0]][0] if len(gone) == 1 else f"{len(gone):,} removed videos"
        yield Unreachable(f"results of {what}", [*map(str, gone)], Size.of(gone).bytes)
