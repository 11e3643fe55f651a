"""The commands about a store that is there: lineage, forget, gc, manifest."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from spark_trainer import config
from spark_trainer.data import corrections, lock
from spark_trainer.data.files import canonical_json
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError
from spark_trainer.runs import folder, record
from spark_trainer.runs.folder import RunFolder


def lineage(options: argparse.Namespace) -> int:
    """Tell where a run comes from, or all that derives from a video."""
    from spark_trainer.store import clips
    from spark_trainer.store import lineage as told

    settings = config.read(options.config)
    layout = Layout(Path(settings.output_dir))
    runs = told.Runs(_runs(options))
    chosen = _run(options.what, runs.folders.values())
    if chosen is not None:
        said = told.of_run(chosen, runs, layout)
    else:
        clip = clips.find(layout, options.what)
        said = told.of_clip(clip, runs, layout, corrections.find(settings.corrections, clip.hash))
    print(canonical_json(said) if options.json else told.text(said))
    return 0


def lineage_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `lineage`."""
    what = "a run (name, id or folder), or a video (file, hash, or the beginning of one)"
    parser.add_argument("what", help=what)
    _runs_flag(parser)
    parser.add_argument("--json", action="store_true", help="one line of JSON")


def forget(options: argparse.Namespace) -> int:
    """Remove a video and all that derives from it, and never take it up again."""
    from spark_trainer.store import clips
    from spark_trainer.store import forget as removal

    settings = config.read(options.config)
    layout, by_hand = Layout(Path(settings.output_dir)), settings.corrections
    runs = list(_runs(options))
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
    _runs_flag(parser)
    _asking_flags(parser)


def gc(options: argparse.Namespace) -> int:
    """Remove what no configuration of the store, no manifest and no run reaches."""
    from spark_trainer.data import index
    from spark_trainer.graph import trained
    from spark_trainer.graph.videos import VideoGraph
    from spark_trainer.store import forget as removal
    from spark_trainer.store import gc as collection
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
    graphs = [VideoGraph(one, index.scan(one)) for one in settings]
    reach = collection.Reach(graphs, list(_runs(options)))
    kinds: dict[str, list[Path]] = {}
    for kind, path in collection.unreached(reach, options.logs_older_than):
        kinds.setdefault(kind, []).append(path)
    for kind, found in kinds.items():
        print(f"{kind}: {Size.of(found)}")
        print("".join(f"  {line}\n" for line in record.some(map(str, found))), end="")
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
    parser.add_argument("--logs-older-than", type=float, default=30, metavar="DAYS", help=older)
    _runs_flag(parser)
    _asking_flags(parser)


def manifest(options: argparse.Namespace) -> int:
    """Show with `diff A B` how two manifests, or those of two runs, differ."""
    from spark_trainer.store import manifests

    runs = list(_runs(options))
    match options.diff:
        case ["diff", a, b]:
            pair = [_manifest(options.config, one, runs) for one in (a, b)]
        case ["diff", b]:
            pair = [_manifest(options.config, one, runs) for one in (b, None)]
        case words:
            raise UserError(f"manifest: expected `diff A [B]` (got {' '.join(words)!r})")
    try:
        found = manifests.difference(*pair)
    except FileNotFoundError as error:
        raise UserError(f"no such manifest: {error.filename}") from None
    print(found.json() if options.json else found.text())
    return 0


def manifest_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `manifest`."""
    named = "`diff` and two manifests or runs; without B the manifest of the configuration"
    parser.add_argument("diff", nargs="+", metavar="diff A [B]", help=named)
    _runs_flag(parser)
    parser.add_argument("--json", action="store_true", help="one line of JSON")


def _manifest(configured: Path, wanted: str | None, runs: list[RunFolder]) -> Path:
    """Return the manifest that is meant by a path, a run, or nothing."""
    if wanted is None:
        return Layout(Path(config.read(configured).output_dir)).manifest
    if Path(wanted).is_file():
        return Path(wanted)
    chosen = _run(wanted, runs)
    if chosen is None:
        raise UserError(f"{wanted!r} is neither a manifest nor a run")
    return chosen.manifest


def _run(wanted: str, runs: Iterable[RunFolder]) -> RunFolder | None:
    """Return the run that is meant; None where none is.

    Raises:
        UserError: several are.
    """
    if RunFolder(Path(wanted)).exists():
        return RunFolder(Path(wanted).resolve())
    named = {run: (run.name, *run.name.rsplit("-", 1)) for run in runs}
    found = [run for run, names in named.items() if wanted in names]
    if len(found) > 1:
        listed = "".join(f"\n  {run}" for run in found)
        raise UserError(f"{wanted!r} names {len(found)} runs; expected one of:{listed}")
    return found[0] if found else None


def _runs(options: argparse.Namespace) -> Iterable[RunFolder]:
    """Yield every run in the folders of the configured runs, and in those that a flag names."""
    trained = config.read(options.config).runs.values()
    folders = {Path(run.output_dir) for run in trained} | {Path("runs"), *options.runs}
    for path in sorted(folders):
        yield from folder.below(path)


def _runs_flag(parser: argparse.ArgumentParser) -> None:
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
    if not sys.stdin.isatty():
        raise UserError("nobody can be asked here; --yes does it, --dry-run says what would go")
    if input(f"{what}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("nothing was removed")
