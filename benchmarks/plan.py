"""What `plan` says that a build will take, against what it then takes: frames and audio of clips.

uv run python benchmarks/plan.py

The first build is what the estimates rest on; each further one follows a change.
"""

import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import measure
import yaml
from measure import Measured, Options, Target
from media import cached_clips

FACTOR = 2.0

Settings = dict[str, Any]


class Store:
    """Videos, a configuration, and what was built of them."""

    def __init__(self, folder: Path, clips: list[Path], cores: int) -> None:
        self.folder, self.cores = folder, cores
        self.settings: Settings = {"video_dir": "videos", "output_dir": "out"}
        self.settings |= {"transcript": {"enabled": False}, "caption": {"enabled": False}}
        (folder / "videos").mkdir(parents=True)
        self.add(clips)

    def add(self, clips: list[Path]) -> None:
        """Let videos be found."""
        for clip in clips:
            (self.folder / "videos" / clip.name).symlink_to(clip)

    def change(self, section: str, **values: Any) -> None:
        """Set keys of a section."""
        self.settings.setdefault(section, {}).update(values)

    def plan(self) -> dict[str, Any]:
        """Let `plan` say what is due."""
        command = [sys.executable, "-m", "spark_trainer", "plan", "manifest", "--json"]
        _, output = measure.run([*command, "--config", str(self._config())], self.folder)
        [line] = [line for line in output.splitlines() if line.startswith("{")]
        return dict(json.loads(line))

    def build(self) -> measure.Cost:
        """Build what is due."""
        command = measure.ours(self._config(), "--cores", str(self.cores), "manifest")
        return measure.run(command, self.folder)[0]

    def _config(self) -> Path:
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        return path


def changes(
    store: Store, later: list[Path], rounds: int
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield what is changed before each further build: its kind, and how."""
    for _ in range(rounds):
        for rate in (2.0, 1.0):
            yield "frames of all", partial(store.change, "frames", frame_rate=rate)
        for rate in (8000, 16000):
            yield "audio of all", partial(store.change, "audio", sample_rate=rate)
    one = len(later) - rounds
    for number in range(rounds):
        some = later[:one][number::rounds]
        yield f"{len(some)} clips more", partial(store.add, some)
    for clip in later[one:]:
        yield "1 clip more", partial(store.add, [clip])


def measured(folder: Path, options: Options) -> Measured:
    """Build, then change one thing after the other, and compare what is said with what is."""
    found = cached_clips(options.videos, options.size, options.cores)
    clips = sorted(found.glob("*.mp4"))
    later = clips[:: len(clips) // options.later]
    store = Store(folder / "store", [clip for clip in clips if clip not in later], options.cores)
    measure.heading(f"{len(clips)} clips of {options.size}, {options.cores} cores")
    measure.row("the first build, with nothing to go by", store.build())
    builds: dict[str, list[dict[str, Any]]] = {}
    for kind, change in changes(store, later, options.rounds):
        change()
        said = store.plan()["estimate"]["seconds"]
        cost = store.build()
        measure.row(f"{kind}: said {said:.1f} s", cost)
        builds.setdefault(kind, []).append({"said_s": round(said, 3), "build": cost})
    targets = [
        Target(f"{kind}: said and taken, apart by a factor", statistics.median(factors), FACTOR)
        for kind, factors in ((kind, map(apart, found)) for kind, found in builds.items())
    ]
    return {"builds": builds}, targets


def apart(one: dict[str, Any]) -> float:
    """Return by which factor an estimate is off, to whichever side."""
    ratio = one["said_s"] / one["build"].wall_s
    return float(max(ratio, 1 / ratio))


if __name__ == "__main__":
    os.environ.pop("SPARK_TRAINER_INDEX", None)
    measure.main(
        __doc__,
        measured,
        videos=(200, 12, "clips"),
        later=(20, 3, "of them that come later"),
        # How fast a shared machine is changes by half from minute to minute.
        rounds=(2, 1, "of the changes"),
        size=("640:360", "160:90", "width:height of the clips"),
        cores=(len(os.sched_getaffinity(0)), 2, "processes at once"),
    )
