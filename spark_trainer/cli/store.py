"""The commands about a store that is there: lineage, forget, gc, manifest."""

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer import config
from spark_trainer.cli import flags
from spark_trainer.data import corrections, lock
from spark_trainer.data.files import canonical_json
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError
from spark_trainer.runs import folder, record
from spark_trainer.runs.folder import RunFolder

if TYPE_CHECKING:
    from spark_trainer.store.lineage import Runs
    from spark_trainer.store.manifests import Named


def lineage(options: argparse.Namespace) -> int:
    """Tell where a run comes from, or all that derives from a video."""
    from spark_trainer.store import clips
    from spark_trainer.store import lineage as told
    from spark_trainer.store.lineage_text import text

    settings = config.read(options.config)
    layout = Layout(Path(settings.output_dir))
    runs = told.Runs(run_folders(options))
    chosen = find_run(options.what, runs.folders.values())
    if chosen is not None:
        said = told.of_run(chosen, runs)
    else:
        clip = clips.find(layout, options.what)
        said = told.of_clip(clip, runs, layout, corrections.find(settings.corrections, clip.hash))
    if options.prov:
        print(_prov(said, chosen, runs))
    else:
        print(canonical_json(said) if options.json else text(said))
    return 0


def _prov(said: dict[str, Any], chosen: RunFolder | None, runs: "Runs") -> str:
    from spark_trainer.store import lineage as told
    from spark_trainer.store import prov

    if chosen is not None:
        return prov.of_run(said, told.splits(chosen, record.described(chosen)["videos"]))
    links = [link for name in said["runs"] for link in runs.after(name)]
    return prov.of_clip(said, list(dict.fromkeys(links)))


def lineage_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `lineage`."""
    what = "a run (name, id or folder), or a video (file, hash, or the beginning of one)"
    parser.add_argument("what", help=what)
    runs_flag(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="one line of JSON")
    how.add_argument("--prov", action="store_true", help="W3C PROV-JSON, for other tools")


def forget(options: argparse.Namespace) -> int:
    """Remove a video and all that derives from it, and never take it up again."""
    from spark_trainer.store import clips
    from spark_trainer.store import forget as removal

    settings = config.read(options.config)
    layout, by_hand = Layout(Path(settings.output_dir)), settings.corrections
    runs = list(run_folders(options, folder.begun))
    clip = clips.find(layout, options.video)
    due = removal.Forgetting(layout, clip, runs, by_hand)
    print("\n".join(due.listed()))
    if options.dry_run:
        return 0
    _confirm("forget it", options.yes)
    lock.hold(layout.lock)
    for cut_short in removal.unfinished(layout):
        removal.Forgetting(layout, clips.Clip(cut_short.video, ()), runs, by_hand).carry_out("")
    removal.Forgetting(layout, clip, runs, by_hand).carry_out(options.reason)
    print("forgotten; the next build writes the manifest without it", file=sys.stderr)
    return 0


def forget_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `forget`."""
    parser.add_argument("video", help="its file, its hash, or the beginning of its hash")
    parser.add_argument("--reason", default="", help="why; it is kept, and told where it is seen")
    runs_flag(parser)
    _asking_flags(parser)


def gc(options: argparse.Namespace) -> int:
    """Remove what no configuration of the store, no manifest and no run reaches."""
    from spark_trainer.data import hashing, index
    from spark_trainer.graph import trained
    from spark_trainer.graph.videos import VideoGraph
    from spark_trainer.store import forget as removal
    from spark_trainer.store import gc as collection
    from spark_trainer.store.reach import Reach
    from spark_trainer.store.sizes import Size

    paths = [options.config, *options.also]
    settings = [trained.located(config.read(path)) for path in paths]
    stores = {Path(one.output_dir).resolve() for one in settings}
    if len(stores) > 1:
        raise UserError(f"gc: {' and '.join(map(str, paths))} have another output_dir each")
    layout = Layout(Path(settings[0].output_dir))
    if not layout.state.is_dir():
        raise UserError(f"output_dir: nothing was built in {layout.root}")
    if not options.dry_run:
        lock.hold(layout.lock)
        layout.sweep()
    known = hashing.read_cache(layout.index_cache)  # before a scan of another configuration
    graphs = [VideoGraph(one, index.scan(one)) for one in settings]
    away = set[str]()
    for graph in graphs:
        print("".join(f"{line}\n" for line in graph.index.search.notes()), end="", file=sys.stderr)
        if not graph.config.index.allow_empty:
            away |= {row[2] for row in hashing.out_of_reach(graph.index.search, known).values()}
    reach = Reach(graphs, list(run_folders(options)), away=frozenset(away))
    kinds: dict[str, list[Path]] = {}
    for kind, path in collection.unreached(reach, options.logs_older_than):
        kinds.setdefault(kind, []).append(path)
    for kind, found in kinds.items():
        print(f"{kind}: {Size.of(found)}")
        print("".join(f"  {line}\n" for line in record.some(map(str, found))), end="")
    kinds.pop(collection.STAYS, None)
    if not kinds:
        print("nothing to remove")
    elif not options.dry_run:
        _confirm("remove all of this", options.yes)
        for path in (path for found in kinds.values() for path in found):
            removal.remove(path)
    return 0


def gc_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `gc`."""
    also = "another configuration that uses the same output_dir; may be given several times"
    parser.add_argument("--also", type=Path, action="append", default=[], help=also)
    older = "days after which a command's logs go (default: 30)"
    parser.add_argument(
        "--logs-older-than", type=flags.days, default=30.0, metavar="DAYS", help=older
    )
    runs_flag(parser)
    _asking_flags(parser)


def manifest(options: argparse.Namespace) -> int:
    """List past manifests, or show with `diff A B` how two of them, or of two runs, differ."""
    from spark_trainer.data import past
    from spark_trainer.store import manifests

    layout = Layout(Path(config.read(options.config).output_dir))
    runs = list(run_folders(options))
    match options.words:
        case ["list"]:
            kept = list(past.every(layout).values())
            if options.json:
                print(canonical_json([asdict(one) for one in kept]))
            elif kept:
                print(manifests.table(kept))
            else:
                print(f"{layout.root}: no manifest was kept yet", file=sys.stderr)
            return 0
        case ["diff", a, b]:
            pair = [_manifest(layout, one, runs) for one in (a, b)]
        case ["diff", b]:
            pair = [_manifest(layout, one, runs) for one in (b, None)]
        case words:
            raise UserError(f"manifest: expected `list` or `diff A [B]` (got {' '.join(words)!r})")
    found = manifests.difference(*pair)
    print(found.json() if options.json else found.text())
    return 0


def manifest_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `manifest`."""
    named = (
        "`list`, or `diff` and two manifests (a file, or six digits of its SHA-256) or runs; "
        "without B the manifest of the configuration"
    )
    parser.add_argument("words", nargs="+", metavar="list | diff A [B]", help=named)
    runs_flag(parser)
    parser.add_argument("--json", action="store_true", help="one line of JSON")


def _manifest(layout: Layout, wanted: str | None, runs: list[RunFolder]) -> "Named":
    """Return the manifest that is meant by a path, a run, the beginning of a digest, or nothing."""
    from spark_trainer.store import manifests

    file = layout.manifest if wanted is None else Path(wanted)
    chosen = None if wanted is None or file.is_file() else find_run(wanted, runs)
    if chosen is not None:
        file = chosen.manifest
    try:
        return manifests.Named.of(file)
    except FileNotFoundError:
        kept = manifests.find(layout, wanted or "")
        if kept is None:
            what = "is neither a manifest nor a run" if chosen is None else "has no manifest"
            raise UserError(f"{wanted or str(file)!r} {what}") from None
        return manifests.Named(kept.sha256, kept.entries(layout))


def find_run(wanted: str, runs: Iterable[RunFolder]) -> RunFolder | None:
    """Return the run that is meant; None where none is.

    Raises:
        UserError: several are.
    """
    from spark_trainer.store.lineage import launched_as

    if RunFolder(Path(wanted)).exists():
        return RunFolder(Path(wanted).resolve())
    every = {run: {run.name, launched_as(run)} for run in runs}
    named = {
        run: {*names, *(part for name in names for part in name.rsplit("-", 1))}
        for run, names in every.items()
    }
    found = [run for run, names in named.items() if wanted in names]
    if len(found) > 1:
        listed = "".join(f"\n  {run}" for run in found)
        raise UserError(f"{wanted!r} names {len(found)} runs; expected one of:{listed}")
    return found[0] if found else None


def run_folders(
    options: argparse.Namespace,
    listed: Callable[[Path], Iterable[RunFolder]] = folder.below,
) -> Iterable[RunFolder]:
    """Yield every run in the folders of the configured runs, and in those that a flag names.

    Args:
        options: the flags.
        listed: lists those below a folder.

    Raises:
        UserError: a flag names no folder.
    """
    if missing := [path for path in options.runs if not path.is_dir()]:
        raise UserError(f"--runs: no such folder: {missing[0]}")
    paths = [options.config, *getattr(options, "also", ())]
    trained = [run for path in paths for run in config.read(path).runs.values()]
    folders = {Path(run.output_dir) for run in trained} | {Path("runs"), *options.runs}
    for path in sorted(folders):
        yield from listed(path)


def runs_flag(parser: argparse.ArgumentParser) -> None:
    other = "another folder of runs, beside those of the configuration; may be given several times"
    parser.add_argument("--runs", type=Path, action="append", default=[], help=other)


def _asking_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and stop")
    parser.add_argument("--yes", action="store_true", help="don't ask")


def _confirm(what: str, yes: bool) -> None:
    """Ask before something goes for good.

    Raises:
        UserError: the answer is no, or nobody can be asked.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError("nobody can be asked here; --yes does it, --dry-run says what would go")
    try:
        answer = input(f"{what}? [y/N] ")
    except (EOFError, UnicodeDecodeError):  # Ctrl-D, or no text
        answer = ""
        print()
    if answer.strip().lower() not in ("y", "yes"):
        raise UserError("nothing was removed")
