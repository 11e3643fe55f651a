"""The graph from videos to the manifest, for one configuration and one state of the folders."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spark_trainer import steps
from spark_trainer.config import Config
from spark_trainer.data.files import holds, write_json
from spark_trainer.data.index import Index
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.errors import UserError
from spark_trainer.steps import manifest, promises


@dataclass(frozen=True)
class VideoGraph:
    """Which results the videos have, what each reads, and the marker that says it is done.

    `local` tells whether the jobs run on this machine, as those of a cluster do not. It is asked
    for each job: Snakemake knows it only after it has read the rules. A cluster's job calls
    Snakemake again, as if locally, and is to find what was asked for it.
    """

    config: Config
    index: Index
    local: Callable[[], bool] = lambda: True

    @property
    def layout(self) -> Layout:
        """Return where everything lies."""
        return self.index.layout

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Return step -> what names its results, the manifest's among them."""
        return manifest.fingerprints(self.config, self.index.labels.keys)

    @cached_property
    def manifest_marker(self) -> Path:
        """Name the marker of the manifest."""
        return self.layout.marker_folder("join") / f"{self._manifest}.json"

    @cached_property
    def report_marker(self) -> Path:
        """Name the marker of the page that shows the manifest."""
        return self.layout.marker_folder("report") / f"{self._manifest}.json"

    @cached_property
    def _manifest(self) -> str:
        named = self.fingerprints[manifest.NAME]
        given = self.index.labels.name
        return manifest.identity(self.index.digest, named, self.index.corrected, given)

    def told(self, step: str, shard: Shard) -> Shard:
        """Return a shard with the corrections and labels that a step, or the manifest, reads."""
        return self.index.told(shard, manifest.corrected(step))

    def marker(self, step: str, shard: Shard) -> Path:
        """Name the marker of a step over a shard."""
        return self.index.marker(step, self.fingerprints[step], self.told(step, shard))

    def markers(self, step: str) -> list[Path]:
        """Name the markers of a step over every shard."""
        return [self.marker(step, shard) for shard in self.index.shards]

    def upstream(self, step: str, shard: str) -> list[Path]:
        """Name the markers that a step waits for, over the shard of that name."""
        members = self.index.shard_of(shard)
        return [self.marker(name, members) for name in self._read_by(step)]

    def _read_by(self, step: str) -> tuple[str, ...]:
        """Name the steps that a step, or the manifest, reads."""
        if step == manifest.NAME:
            return steps.reported(self.config)
        return steps.upstream(self.config, step)

    def settings(self, step: str) -> Path:
        """Write the settings of a step as its jobs read them, named by the fingerprint.

        Written again where one differs that decides no result, such as `device`.
        """
        path = self.layout.settings(step, self.fingerprints[step])
        job = {
            "step": step,
            "fingerprint": self.fingerprints[step],
            "output_dir": self.config.output_dir,
            "settings": self._chosen(step),
        }
        if not holds(path, job):
            write_json(path, job)
        return path

    def _chosen(self, step: str) -> dict[str, Any]:
        """Return a step's settings; the manifest has none, but is told what it reads."""
        if step == manifest.NAME:
            return {"steps": self._read_by(step), "keys": self.index.labels.keys}
        return steps.section(self.config, step).model_dump(mode="json")

    def gpus(self, step: str) -> int:
        """Count the GPUs that a job of a step asks for."""
        return steps.gpus(self.config, step, self.local())

    def part_list(self) -> Path:
        """Write the list of the manifest's parts; thousands don't fit on a command line."""
        path = self.layout.parts(self._manifest)
        shards = [self.told(manifest.NAME, shard) for shard in self.index.shards]
        write_json(
            path,
            [[str(self.marker(manifest.NAME, s)), str(self.layout.shard(s.name))] for s in shards],
        )
        return path

    def video(self, folder: str, step: str = "") -> Video:
        """Find the video that a folder below `output_dir` belongs to, as a step knows it.

        Raises:
            UserError: none does.
        """
        if folder not in self.index.by_folder:
            raise UserError(f"no video has the folder {self.layout.root / folder}")
        return self.index.told_of(self.index.by_folder[folder], manifest.corrected(step))

    def one_video(self, step: str, folder: str) -> list[str]:
        """Return the flags that name the video behind a folder to the job of a step."""
        video = self.video(folder, step)
        said = {"--correction": video.correction, "--labels": video.labels}
        flags = [word for flag, told in said.items() if told for word in (flag, told)]
        return ["--folder", video.folder, "--video", video.hash, *flags]

    def outdated(self, step: str, folder: str) -> list[Path]:
        """Write a fresh file where a record failed, or is of other settings or content."""
        made_by, video = steps.load(step), self.video(folder, step)
        path = made_by.path(self.layout, video)
        record = made_by.RECORD.find(path)
        if not path.exists() or promises.fresh(record, video, self.fingerprints[step]):
            return []
        outdated = self.layout.state / "outdated.json"
        write_json(outdated, step)
        return [outdated]
