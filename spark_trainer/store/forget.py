"""Remove a video and all that derives from it, from a store and from the folders of runs.

What a model learnt from it can't be taken out of its weights: such runs are named. The video's own
file is the user's, and stays.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from spark_trainer import exports, steps
from spark_trainer.data import forgotten, hashing, jsonl, past
from spark_trainer.data.corrections import path_of
from spark_trainer.data.files import Broken, read_json, sweep, write_json
from spark_trainer.data.forgotten import Tombstone
from spark_trainer.data.labels.kept import holding
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.runs.folder import RunFolder
from spark_trainer.steps import promises
from spark_trainer.store import clips, forget_runs, ours
from spark_trainer.store.clips import Clip
from spark_trainer.store.forget_runs import drop_lines
from spark_trainer.store.sizes import Size
from spark_trainer.system import environment
from spark_trainer.train import holder


@dataclass(frozen=True)
class Forgetting:
    """What is to go of one video."""

    layout: Layout
    clip: Clip
    runs: Sequence[RunFolder]  # all that there are, also those that were not launched
    corrections: Path  # the folder of what was corrected by hand

    @cached_property
    def seen_by(self) -> list[RunFolder]:
        """List the runs whose model saw the video."""
        return clips.seen_by(self.runs, self.clip.hash)

    def size(self) -> Size:
        """Measure the files that go as a whole."""
        return Size.of({path for path in self._own() if path.exists()})

    def listed(self) -> list[str]:
        """Describe what goes and what stays, a line each."""
        saw = [f"  {run}: its weights and checkpoints stay" for run in self.seen_by]
        stays = [f"  {path}" for path in self._files()]
        also = [f"  {path}" for path in self._strange()]
        pages = [f"  {path}" for path in self._pages(made_here=False)]
        out = [f"  {place}" for place in exports.places(self.layout)]
        return [
            f"{self.clip.hash}: {self._told()}",
            *(["in its folder goes what SparkTrainer did not write:", *also] if also else []),
            *(["runs that saw it:", *saw] if saw else ["no run saw it"]),
            *(
                ["its hash stands in what SparkTrainer did not write, which stays:", *pages]
                if pages
                else []
            ),
            *(["exports that may hold it, until they are made again:", *out] if out else []),
            *(["its file stays, and is left out by name or content:", *stays] if stays else []),
        ]

    def _told(self) -> str:
        size, shown = self.size(), forget_runs.showing(self.runs, self.clip.hash)
        if size.files or shown:
            return f"{size}, its line of the manifest, its samples"
        return "nothing here derives from it; it will not be taken up"

    def _files(self) -> list[str]:
        """List the files that hold the video, by size and time, as a build looks for it."""
        rows = hashing.read_cache(self.layout.index_cache)
        rows |= forgotten.rows(forgotten.every(self.layout))
        return [
            path
            for path, (size, mtime_ns, video) in sorted(rows.items())
            if video == self.clip.hash
            and os.path.isfile(path)
            and (size, mtime_ns) == ((said := os.stat(path)).st_size, said.st_mtime_ns)
        ]

    def carry_out(self, reason: str) -> Tombstone:
        """Remove it; a call that was cut short is finished by the next one.

        Args:
            reason: why, in the user's words; without any, that of an earlier call stays.

        Raises:
            UserError: a run that saw it is being trained.
            OSError: something can't be removed.
        """
        video = self.clip.hash
        with ExitStack() as held:
            shown = forget_runs.showing(self.runs, video)
            for run in shown:
                held.enter_context(holder.held(run))
            kept = forgotten.every(self.layout).get(video) or self._tombstone(reason)
            runs = sorted({*kept.runs, *(run.name for run in self.seen_by)})
            kept = replace(kept, runs=runs, reason=reason or kept.reason, finished=False)
            kept.write(self.layout)
            self.layout.sweep()
            for folder in (self.corrections, *self.layout.encoded("").glob("*/texts/*/")):
                sweep(folder)
            for run in shown:
                forget_runs.clean(run, video, kept)
            for path in (*self._own(), *self._shared()):
                remove(path)
            past.forget(self.layout, video)
            self._unlist()
            self._regroup()
            self._tidy()
            done = replace(kept, finished=True)
            done.write(self.layout)
        return done

    def _tombstone(self, reason: str) -> Tombstone:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = hashing.read_cache(self.layout.index_cache)
        files = {path: [*row[:2]] for path, row in rows.items() if row[2] == self.clip.hash}
        return Tombstone(self.clip.hash, now, environment.user(), reason, files=files)

    def _own(self) -> Iterator[Path]:
        """Yield what goes as a whole; what is found by means of other files goes before them."""
        layout, video = self.layout, self.clip.hash
        yield from clips.own_texts(layout, video)
        yield from clips.encoded(layout, video)
        for folder in clips.folders(layout, video):
            yield from _results(layout, folder, video)
        yield path_of(self.corrections, video)
        yield from (one for one in layout.corrected.glob("*.json") if _holds(one, video))
        yield from holding(layout, video)
        yield layout.source(video)
        yield from (one for one in layout.index("").parent.glob("*.json") if _holds(one, video))
        for part in layout.marker_folder("manifest").glob("*.jsonl"):
            if clips.lines(part, video):
                yield part
        yield from self._pages(made_here=True)

    def _shared(self) -> Iterator[Path]:
        """Yield what says that the manifest and the report are made."""
        for made in ("join", "report"):
            yield from self.layout.marker_folder(made).glob("*.json")

    def _pages(self, made_here: bool) -> Iterator[Path]:
        """Yield the pages in the store that say the video's hash: reports, or none of them."""
        for page in self.layout.root.glob("*.html"):
            written = page.read_text(encoding="utf-8", errors="replace")
            if self.clip.hash in written and (ours.PAGE in written) is made_here:
                yield page

    def _strange(self) -> Iterator[Path]:
        """Yield what lies in the video's own folders and is none of a step's files."""
        for folder in clips.folders(self.layout, self.clip.hash):
            if folder in _results(self.layout, folder, self.clip.hash):
                yield from ours.others(folder, ours.of_video)

    def _unlist(self) -> None:
        """Remove the video's lines from lists of many."""
        video, layout = self.clip.hash, self.layout
        seen = layout.seen(video)
        for listed in (layout.manifest, layout.rejected, layout.thumbnails):
            drop_lines(listed, lambda lines: (one for one in lines if not jsonl.is_of(one, video)))
        if seen.is_file() and video in (notes := read_json(seen, dict)):
            write_json(seen, {key: note for key, note in notes.items() if key != video})
        rows = hashing.read_cache(layout.index_cache)
        if left := {path: row for path, row in rows.items() if row[2] != video}:
            write_json(layout.index_cache, left)
        else:
            layout.index_cache.unlink(missing_ok=True)
        for root in {Path("runs"), *(run.path.parent for run in self.runs)}:
            forget_runs.clean_logs(root, video)

    def _regroup(self) -> None:
        """Let the shards that held the video, and what is known of them, be those of the others.

        A marker is as true of those that are left. The manifest's part is made again.
        """
        layout = self.layout
        for listed in sorted(layout.shard("").parent.glob("*.json")):
            try:
                shard = layout.read_shard(listed)
            except Broken:  # it is gone by now, and the next build writes it again
                continue
            left = tuple(video for video in shard.videos if video.hash != self.clip.hash)
            if left == shard.videos:
                continue
            other = Shard(shard.bits, left)
            if left:
                layout.write_shard(other)
            for marker in sorted(layout.marker_folder("").rglob(f"{shard.name}.*.jsonl")):
                if left and marker.parent != layout.marker_folder("manifest"):
                    marker.rename(marker.with_name(marker.name.replace(shard.name, other.name)))
                else:
                    marker.unlink()
            listed.unlink()

    def _tidy(self) -> None:
        """Remove the folders of two digits of its hash that are empty by now."""
        root, digits = self.layout.root, self.clip.hash[:2]
        for folder in (root / digits, *self.layout.encoded("").glob(f"*/{digits}")):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def unfinished(layout: Layout) -> list[Tombstone]:
    """List what is left to remove of calls that were cut short."""
    return [one for one in forgotten.every(layout).values() if not one.finished]


def _results(layout: Layout, folder: Path, video: str) -> Iterator[Path]:
    """Yield what is the video's in a folder; one that is named after a file may hold another's."""
    records = [path for path in folder.rglob("*.json") if clips.owner(path)]
    if all(clips.owner(path) == video for path in records):
        yield folder
        return
    here = Video(video, folder.relative_to(layout.root).as_posix())
    for path in records:
        if clips.owner(path) == video:
            step = steps.load(str(read_json(path, dict)["step"]))
            named = promises.promised(step, layout, here, step.RECORD.find(path)) or []
            yield from {one if one.parent == folder else one.parent for one in named}
            yield path


def _holds(path: Path, video: str) -> bool:
    return video in path.read_text(encoding="utf-8", errors="replace")


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; what is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        # A record goes last: it tells whose the folder is, if a kill leaves some of it.
        for one in sorted(path.iterdir(), key=lambda one: one.suffix == ".json"):
            remove(one)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
