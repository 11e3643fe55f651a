"""What `plan` says that a build will take, against what it then takes: frames and audio of clips.

uv run python benchmarks/plan.py

The first build is what the estimates rest on; each further one follows a change.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import yaml
from measure import Measured, Options, Target
from media import cached_clips

FACTOR = 2.0
SHARE = 10  # of the clips one in so many comes later

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


def measured(folder: Path, options: Options) -> Measured:
    """Build, then change one thing after the other, and compare what is said with what is."""
    found = cached_clips(options.videos, options.size, options.cores)
    clips = sorted(found.glob("*.mp4"))
    later = clips[::SHARE]
    store = Store(folder / "store", [clip for clip in clips if clip not in later], options.cores)
    measure.heading(f"{len(clips)} clips of {options.size}, {options.cores} cores")
    measure.row("the first build, with nothing to go by", store.build())
    changes: dict[str, Callable[[], None]] = {
        "frames.frame_rate: 1 → 2": lambda: store.change("frames", frame_rate=2.0),
        "audio.sample_rate: 16000 → 8000": lambda: store.change("audio", sample_rate=8000),
        "frames.frame_rate: 2 → 1": lambda: store.change("frames", frame_rate=1.0),
        "audio.sample_rate: 8000 → 16000": lambda: store.change("audio", sample_rate=16000),
        f"{len(later) - 1} clips more": lambda: store.add(later[1:]),
        "1 clip more": lambda: store.add(later[:1]),
    }
    figures: dict[str, Any] = {}
    targets = []
    for name, change in changes.items():
        change()
        said = store.plan()
        cost = store.build()
        seconds = said["estimate"]["seconds"]
        measure.row(f"{name}: said {seconds:.1f} s", cost)
        off = max(seconds / cost.wall_s, cost.wall_s / seconds)
        targets.append(Target(f"{name}: said and taken, apart by a factor", off, FACTOR))
        videos = {
            step: sum(len(one["videos"]) for one in due) for step, due in said["steps"].items()
        }
        figures[name] = {"said_s": round(seconds, 3), "videos": videos, "build": cost}
    return {"changes": figures}, targets


if __name__ == "__main__":
    os.environ.pop("SPARK_TRAINER_INDEX", None)
    measure.main(
        __doc__,
        measured,
        videos=(200, 12, "clips"),
        size=("640:360", "160:90", "width:height of the clips"),
        cores=(len(os.sched_getaffinity(0)), 2, "processes at once"),
    )
