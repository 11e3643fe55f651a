"""What goes to a hub of a finished run or an export, whose it is, and what speaks against it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from spark_trainer.data import forgotten, licences
from spark_trainer.data.files import Broken, file_digest, read_json
from spark_trainer.data.layout import EXPORT_NOTE, Layout
from spark_trainer.data.manifest import some
from spark_trainer.errors import UserError
from spark_trainer.exports.folder import SMALL, Note
from spark_trainer.runs import record
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.summary import Summary
from spark_trainer.store.lineage import Runs
from spark_trainer.system import log
from spark_trainer.system.progress import progress

CARD = "README.md"
TEXTS = {".json", ".jsonl", ".md", ".toml", ".txt", ".yaml"}  # that may name a place
ADAPTER = "adapter_config.json"  # of PEFT


@dataclass(frozen=True)
class Upload:
    """What goes to a hub.

    Attributes:
        name: of the run, or of the export's folder.
        kind: what the hub calls it.
        folder: where the files lie.
        files: path below the folder -> bytes.
        left_out: paths of the others below it.
        terms: who may do what with it, as far as known, a line each.
        remarks: what may be wrong with it, a line each.
        forgotten: why it should not go at all: videos that were forgotten.
    """

    name: str
    kind: Literal["model", "dataset"]
    folder: Path
    files: Mapping[str, int]
    left_out: Sequence[str] = ()
    terms: Sequence[str] = ()
    remarks: Sequence[str] = ()
    forgotten: Sequence[str] = field(default=())

    def told(self) -> Iterator[str]:
        """Yield what `--dry-run` says: every file, the sum, whose it is, and remarks."""
        for path, size in self.files.items():
            yield f"{size:>15,}  {path}"
        total = sum(self.files.values())
        yield f"{total:>15,}  bytes in {len(self.files):,} files of {self.folder}"
        yield from self.noted()
        yield from (f"remark: {one}" for one in self.forgotten)

    def noted(self) -> Iterator[str]:
        """Yield what is said whenever it goes: whose it is, what stays here, and remarks."""
        yield from self.terms
        if self.left_out:
            yield f"stays here: {_named(self.left_out)}"
        yield from (f"remark: {one}" for one in self.remarks)


def of_run(run: RunFolder, runs: Runs, layout: Layout) -> Upload:
    """Return what goes of a run: `final/`, without what was heard in the user's own videos.

    Args:
        run: the run.
        runs: all that may be its relatives.
        layout: the store whose forgotten videos count.

    Raises:
        UserError: the run is not finished, or its weights are not those that it wrote.
        RunError: a file of the run is damaged.
    """
    if not run.summary.is_file():
        raise UserError(f"{run} is not finished; the command that trains it goes on with it")
    try:
        digests, said = dict(Summary.read(run).digests.items()), record.described(run)
    except record.DAMAGED as error:
        raise record.damaged(run, error) from None
    sizes = dict(_sizes(run.final))
    if digests:
        _check(run, digests)
    written = digests or [path for path in sizes if _plain(run.final / path)]
    files = {path: size for path, size in sizes.items() if path in written}
    files.pop(run.whole_files.name, None)
    if CARD not in files:
        raise UserError(f"{run.final} is not what the training wrote: no {CARD}")
    videos = said["videos"].values()
    return Upload(
        runs.called(run),
        "model",
        run.final,
        files,
        [path for path in sizes if path not in files],
        [
            f"licence of the base: {_card_licence(run.final)}",
            f"learnt from or measured on {len(videos):,} videos; licences: "
            + licences.told(licences.counted(videos)),
        ],
        [
            *([] if digests else ["of an earlier version, which kept no digests of its weights"]),
            *_local_base(run.final),
            *_places(run.final, files),
        ],
        _forgotten(run, runs, layout),
    )


def of_export(place: Path, layout: Layout) -> Upload:
    """Return what goes of an export: what was written there, and nothing that came to it.

    Args:
        place: its folder.
        layout: the store whose forgotten videos count.

    Raises:
        UserError: it is no export, or something of it is missing or was edited.
    """
    note = Note.find(place)
    if note is None:
        raise UserError(f"{str(place)!r} is neither a run nor an export")
    sizes = dict(_sizes(place))
    if wrong := [*dict.fromkeys([*note.changed(place), *(note.files.keys() - sizes.keys())])]:
        again = "move it away or remove it, and make it again"
        raise UserError(f"{place} is not as it was made: {_named(wrong)}; {again}")
    files = {path: sizes[path] for path in note.files}
    made, gone = (place / EXPORT_NOTE).stat().st_mtime, forgotten.every(layout)
    later = {
        video: one
        for video, one in gone.items()
        if datetime.fromisoformat(one.at).timestamp() > made
    }
    if gone:  # a copy of an export is younger than the export
        later |= {video: one for video, one in gone.items() if _names(place, files, video)}
    return Upload(
        place.name,
        "dataset",
        place,
        files,
        [path for path in sizes if path not in files and path != EXPORT_NOTE],
        [
            f"{sum(note.videos.values()):,} videos; licences, as their own facts tell them: "
            + licences.told(note.licences)
        ],
        [*_places(place, files)],
        [f"may hold {video}, {one}; make it again" for video, one in later.items()],
    )


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.stat().st_size


def _check(run: RunFolder, digests: Mapping[str, str]) -> None:
    """Read the weights again.

    Raises:
        UserError: they are not those that the training wrote.
    """
    wrong = []
    with progress(f"push/{run.name}", len(digests), "file") as advance:
        for name, digest in digests.items():
            path = run.final / name
            if not path.is_file() or file_digest(path) != digest:
                wrong.append(name)
            advance()
    if wrong:
        raise UserError(f"{run.final} is not what the training wrote: {_named(wrong)}")


def _plain(path: Path) -> bool:
    """Tell whether a training may have written a file: it writes no links and no odd names."""
    return not path.is_symlink() and path.name.isprintable()


def _named(paths: Sequence[str]) -> str:
    return ", ".join(map(log.plain, some(paths)))


def _card_licence(folder: Path) -> str:
    """Return the licence that a model card names."""
    terms = licences.of_card(folder / CARD)
    return licences.shown(terms.get("license_name") or terms.get("license"))


def _local_base(folder: Path) -> Iterator[str]:
    """Say of an adapter that the base below it can be had nowhere else."""
    try:
        base = read_json(folder / ADAPTER, dict).get("base_model_name_or_path")
    except (OSError, Broken):
        return
    if base and Path(base).exists():
        yield f"{ADAPTER} names a base of this machine, {base}: nobody else can load the adapter"


def _places(folder: Path, files: Mapping[str, int]) -> Iterator[str]:
    """Say which files name places of this machine."""
    here = [str(place.absolute()).encode() for place in (folder, Path.home())]
    if found := [name for name, said in _texts(folder, files) if any(one in said for one in here)]:
        yield f"names folders of this machine: {_named(found)}"


def _names(folder: Path, files: Mapping[str, int], video: str) -> bool:
    """Tell whether a file is called after a video, or a text names it."""
    texts = (said for _, said in _texts(folder, files))
    return any(video in name for name in files) or any(video.encode() in said for said in texts)


def _texts(folder: Path, files: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    for name, size in files.items():
        if Path(name).suffix in TEXTS and size <= SMALL:
            yield name, (folder / name).read_bytes()


def _forgotten(run: RunFolder, runs: Runs, layout: Layout) -> list[str]:
    """Say which forgotten videos a run saw, or one that it comes from."""
    gone, name = forgotten.every(layout), runs.called(run)
    earlier = dict.fromkeys(link.earlier for link in runs.before(name))
    told = []
    for one in (name, *earlier):
        there = runs.folders.get(one)
        seen = record.described(there)["videos"] if there else {}
        for video, kept in gone.items():
            if video in seen or one in kept.runs:
                told.append(f"{one} saw {video}, {kept}")
    return told
