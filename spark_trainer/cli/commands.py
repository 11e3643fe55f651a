"""The commands for users, each with its flags."""

import argparse
import contextlib
import shutil
import sys
from pathlib import Path
from typing import Any

from spark_trainer import config
from spark_trainer.cli import flags, snakemake
from spark_trainer.config import described
from spark_trainer.errors import UserError
from spark_trainer.system import log


def preprocess(options: argparse.Namespace) -> int:
    """Ask Snakemake for `manifest`, the flags laid over the configuration file."""
    overlay: dict[str, Any] = {}
    for flag, path in PREPROCESS_FLAGS.items():
        value = getattr(options, flag)
        if value is not None:
            section = overlay
            for key in path[:-1]:
                section = section.setdefault(key, {})
            section[path[-1]] = value
    below = _read_yaml(options.config)
    given = {flag: getattr(options, flag) for flag in PREPROCESS_FLAGS}
    given = {flag: value for flag, value in given.items() if value is not None}
    enabled, said = flags.switches(config.load(below), given)
    for name, value in enabled.items():
        overlay.setdefault(name, {})["enabled"] = value
    data = flags.over_config(below, overlay)
    config.load(data)
    tell(said)
    snakemake.ask(("manifest",), snakemake.kept(data), ("--cores", str(options.cores)))


# Flag of `preprocess` -> where its value goes in the configuration.
PREPROCESS_FLAGS = {
    "video_dir": ("video_dir",),
    "output_dir": ("output_dir",),
    "extract_frames": ("frames", "enabled"),
    "frame_rate": ("frames", "frame_rate"),
    "extract_audio": ("audio", "enabled"),
    "transcribe": ("transcript", "enabled"),
    "whisper_model": ("transcript", "whisper_model"),
    "generate_captions": ("caption", "enabled"),
    "captioner_backend": ("caption", "captioner_backend"),
}


def preprocess_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `preprocess`."""
    kinds: dict[str, dict[str, Any]] = {
        **{name: {"action": argparse.BooleanOptionalAction} for name in flags.SWITCHES},
        "frame_rate": {"type": float},
        "captioner_backend": {"nargs": "+"},
    }
    for name, key in PREPROCESS_FLAGS.items():
        text = described.described(*key)
        parser.add_argument(f"--{name.replace('_', '-')}", help=text, **kinds.get(name, {}))
    parser.add_argument("--cores", default="all", help="used at once (default: all)")


def tell(lines: list[str]) -> None:
    """Say what flags took back, on the terminal and in the log where there is one."""
    for line in lines:
        print(f"spark_trainer: {line}", file=sys.stderr)
    if lines and log.started("train"):
        log.keep(lines)


def validate(options: argparse.Namespace) -> int:
    """Check what a build needs; exit status 0 only if all that is required holds."""
    from spark_trainer.preflight import checks

    settings = config.load(_read_yaml(options.config))
    if options.log:
        log.start("validate", options.log)
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        status = checks.run(settings, options.manifest, options.deep)
    return max(status, _deep(settings, options.json)) if options.deep else status


def _deep(settings: config.Config, as_json: bool) -> int:
    """Read everything that the last build left; print what is wrong, and what is a remark."""
    from spark_trainer.store.deep import Store

    store = Store.read(settings)
    wrong = remarks = 0
    for finding in store.findings():
        wrong, remarks = wrong + finding.wrong, remarks + (not finding.wrong)
        print(finding.json() if as_json else f"{finding.kind:>10}  {finding}")
    counts = f"{wrong:,} wrong, {remarks:,} only remarked"
    print(f"{len(store.videos):,} videos read whole: {counts}", file=sys.stderr)
    if not store.last.whole:
        less = "the last build has not ended, so it is not known all that should be there"
        print(f"{store.layout.root}: {less}", file=sys.stderr)
    return 1 if wrong else 0


def validate_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `validate`."""
    parser.add_argument("--manifest", type=flags.path, help="instead of the configured one")
    deep = "read every file of the store, and compare all with the records and the manifest"
    parser.add_argument("--deep", action="store_true", help=deep)
    parser.add_argument(
        "--json", action="store_true", help="what --deep finds, a line of JSON each"
    )
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)


def index(options: argparse.Namespace) -> int:
    """Hash every new video now, with a progress bar."""
    from tqdm import tqdm

    from spark_trainer.data import index as videos
    from spark_trainer.data.search import find

    settings = config.load(_read_yaml(options.config))
    total = sum(file.size for file in find(settings).files)
    with tqdm(total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        found = videos.scan(settings, bar.update)
    print(*found.search.notes(), sep="\n", end="\n" * bool(found.search.notes()), file=sys.stderr)
    print(found, file=sys.stderr)
    return 0


def runs(options: argparse.Namespace) -> int:
    """List the training runs, or with `diff A B` show how two of them differ."""
    from spark_trainer.runs import difference, record, table

    if options.output_dir and not options.output_dir.is_dir():
        raise UserError(f"--output-dir: no such folder: {options.output_dir}")
    folders = [options.output_dir] if options.output_dir else _run_folders(options.config)
    listed, complaints = record.find(folders)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    match options.diff:
        case ["diff", a, b]:
            try:
                found = difference.difference(record.choose(listed, a), record.choose(listed, b))
            except (OSError, ValueError) as error:
                raise UserError(str(error)) from None
            print(found.json() if options.json else found.text())
        case [] if not listed:
            print(f"no runs in {', '.join(map(str, folders))}", file=sys.stderr)
        case [] if options.json:
            print("\n".join(made.json() for made in listed))
        case []:
            print(table.table(listed, shutil.get_terminal_size((0, 0)).columns))
        case words:
            raise UserError(f"runs: expected nothing or `diff A B` (got {' '.join(words)!r})")
    return 0


def runs_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `runs`."""
    named = "`diff` and two runs: names, run ids, folders, or the beginning of a name or run id"
    parser.add_argument("diff", nargs="*", metavar="diff A B", help=named)
    parser.add_argument(
        "--output-dir", type=flags.path, help="instead of where the configuration says"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each run")


def withdraw(marker: Path) -> None:
    """Remove a marker, and the earlier ones, of files that are about to be overwritten."""
    for other in marker.parent.glob("*.json"):
        other.unlink()


def _read_yaml(path: Path) -> dict[str, Any]:
    config.read(path)
    return config.mapping(path)


def _run_folders(path: Path) -> list[Path]:
    """List the output folders of the configured runs; `runs` where none is configured."""
    trained = config.read(path).runs.values()
    return [Path(folder) for folder in sorted({run.output_dir for run in trained} or {"runs"})]
