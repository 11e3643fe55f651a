"""Remove a video and all that derives from it, from a store and from the folders of runs.

What a model learnt from it can't be taken out of its weights: such runs are named. The video's own
file is the user's, and stays.
"""

import getpass
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from spark_trainer import exports, steps
from spark_trainer.data import forgotten, hashing, past
from spark_trainer.data.corrections import path_of
from spark_trainer.data.files import Broken, read_json, replacing, sweep, write_json
from spark_trainer.data.forgotten import Tombstone
from spark_trainer.data.labels.kept import holding
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.runs.folder import RunFolder
from spark_trainer.steps import promises
from spark_trainer.store import clips, gc, lineage
from spark_trainer.store.clips import Clip
from spark_trainer.store.sizes import Size
from spark_trainer.train import holder

SHORT = 12  # digits of a hash, as logs name a video


@dataclass(frozen=True)
class Forgetting:
    """What is to go of one video."""

    layout: Layout
    clip: Clip
    runs: Sequence[RunFolder]  # all that there are
    corrections: Path  # the folder of what was corrected by hand

    @cached_property
    def seen_by(self) -> list[RunFolder]:
        """List the runs whose model saw the video."""
        return clips.seen_by(self.runs, self.clip.hash)

    def size(self) -> Size:
        """Measure the files that go as a whole."""
        return Size.of(path for path in self._removed() if path.exists())

    def listed(self) -> list[str]:
        """Describe what goes and what stays, a line each."""
        saw = [f"  {run}: its weights and checkpoints stay" for run in self.seen_by]
        stays = [f"  {path}" for path in self.clip.files if path.exists()]
        out = [f"  {place}" for place in exports.places(self.layout)]
        return [
            f"{self.clip.hash}: {self.size()}, its line of the manifest, its samples",
            *(["runs that saw it:", *saw] if saw else ["no run saw it"]),
            *(["exports that may hold it, until they are made again:", *out] if out else []),
            *(["its file stays, and is left out by name or content:", *stays] if stays else []),
        ]

    def carry_out(self, reason: str) -> Tombstone:
        """Remove it; a call that was cut short is finished by the next one.

        Args:
            reason: why, in the user's words.

        Raises:
            UserError: a run that saw it is being trained.
            OSError: something can't be removed.
        """
        with ExitStack() as held:
            for run in self.seen_by:
                held.enter_context(holder.held(run))
            kept = forgotten.every(self.layout).get(self.clip.hash) or self._tombstone(reason)
            kept = replace(kept, runs=[run.name for run in self.seen_by], finished=False)
            kept.write(self.layout)
            self.layout.sweep()
            sweep(self.corrections)
            for run in self.seen_by:
                _clean(run, self.clip.hash, kept)
            for path in self._removed():
                remove(path)
            past.forget(self.layout, self.clip.hash)
            self._unlist()
            self._regroup()
            done = replace(kept, finished=True)
            done.write(self.layout)
        return done

    def _tombstone(self, reason: str) -> Tombstone:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = hashing.read_cache(self.layout.index_cache)
        files = {path: [*row[:2]] for path, row in rows.items() if row[2] == self.clip.hash}
        return Tombstone(self.clip.hash, now, getpass.getuser(), reason, files=files)

    def _removed(self) -> Iterator[Path]:
        """Yield what goes as a whole; what is found by means of other files goes before them."""
        layout, video = self.layout, self.clip.hash
        yield from clips.own_texts(layout, video)
        yield from clips.encoded(layout, video)
        for folder in clips.folders(layout, video):
            yield from _results(layout, folder, video)
        yield path_of(self.corrections, video)
        yield from layout.corrected.glob(f"{video}.*.json")
        yield from (one for one in layout.corrected.glob("*.json") if _holds(one, video))
        yield from holding(layout, video)
        yield layout.source(video)
        yield from (one for one in layout.index("").parent.glob("*.json") if _holds(one, video))
        for part in layout.marker_folder("manifest").glob("*.jsonl"):
            if clips.lines(part, video):
                yield part
        yield from (path for path in layout.root.glob("*.html") if _holds(path, video))
        for made in ("join", "report"):
            yield from layout.marker_folder(made).glob("*.json")

    def _unlist(self) -> None:
        """Remove the video's lines from lists of many."""
        video, layout = self.clip.hash, self.layout
        seen = layout.seen(video)
        for listed in (layout.manifest, layout.rejected, layout.thumbnails):
            _drop_lines(listed, clips.lines(listed, video))
        if seen.is_file() and video in (notes := read_json(seen, dict)):
            write_json(seen, {key: note for key, note in notes.items() if key != video})
        rows = hashing.read_cache(layout.index_cache)
        if left := {path: row for path, row in rows.items() if row[2] != video}:
            write_json(layout.index_cache, left)
        else:
            layout.index_cache.unlink(missing_ok=True)
        for root in {Path("runs"), *(run.path.parent for run in self.runs)}:
            for log in gc.logs(root):
                _drop_lines(log, _said(log, video))

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
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _drop_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Write a file again without some of its lines, all or nothing."""
    if lines:
        dropped = set(lines)
        with replacing(path) as temporary, open(path, "rb") as old, open(temporary, "wb") as new:
            new.writelines(line for line in old if line not in dropped)


def _said(log: Path, video: str) -> list[bytes]:
    """Return the lines of a log that name a video by its hash."""
    if not log.is_file():
        return []
    with open(log, "rb") as lines:
        return [line for line in lines if video[:SHORT].encode() in line]


def _clean(run: RunFolder, video: str, kept: Tombstone) -> None:
    """Remove what a run's folder shows of a video; its id stays, with what became of it."""
    said = read_json(run.lineage, dict)
    said["videos"][video] = {"forgotten": kept.at, "split": lineage.split(run, video)}
    sweep(run.path)  # what a call that was killed left
    lists = [*run.sample_lists(), *run.learnt_lists()]
    shown = [_clean_samples(run, listed, video) for listed in lists]
    if any(shown) and run.events.is_dir():
        shutil.rmtree(run.events)
    _drop_lines(run.log, _said(run.log, video))
    write_json(run.lineage, said)
    for listed in (run.manifest, run.rejected):
        _drop_lines(listed, clips.lines(listed, video))


def _clean_samples(run: RunFolder, listed: Path, video: str) -> bool:
    """Remove a video's samples of an update; returns whether there were any."""
    records: list[dict[str, Any]] = read_json(listed, list)
    own = [record for record in records if record.get("video") == video]
    if not own:
        return False
    folder = listed.with_suffix("")
    for path in (
        *(run.shown(str(record["file"])) for record in own if "file" in record),
        folder / "sheet.png",
        run.sample_page(int(listed.stem.rpartition("_")[2])),
    ):
        path.unlink(missing_ok=True)
    write_json(listed, [record for record in records if record not in own])
    return True
