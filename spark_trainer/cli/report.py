"""The command that writes the page about a store and the runs on it."""

import argparse
import sys
from pathlib import Path

from spark_trainer import config
from spark_trainer.cli import commands, flags, store
from spark_trainer.data.files import write_json
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError
from spark_trainer.runs import folder
from spark_trainer.system import environment


def report(options: argparse.Namespace) -> int:
    """Write a page about the data and the runs: videos, curves, samples, origins, what changed."""
    from spark_trainer.report import page as pages

    if options.marker:
        commands.withdraw(options.marker)
    path = options.manifest or Layout(Path(config.read(options.config).output_dir)).manifest
    if path.is_dir():
        raise UserError(f"{path}: expected a manifest, not a folder")
    page = options.page or Layout(path.parent).report
    runs = list(store.run_folders(options))
    at = folder.state(runs)
    try:
        made = pages.write(path, page, runs, options.limit, options.threads)
    except FileNotFoundError as error:
        if Path(error.filename or "") != path:
            raise
        raise UserError(f"no manifest yet: {path}; build `manifest` first") from None
    except ValueError as error:
        raise UserError(str(error)) from None
    if options.marker:
        write_json(options.marker, {"videos": made.videos, "runs": at})
    for complaint in made.left_out:
        print(f"left out: {complaint}", file=sys.stderr)
    print(f"{page}: {made}", file=sys.stderr)
    return 0


def gallery(options: argparse.Namespace) -> int:
    """Write the same page as `report`, whose middle is the gallery of videos."""
    return report(options)


def report_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `report`."""
    parser.add_argument("--manifest", type=flags.path, help="instead of the configured one")
    parser.add_argument("--page", type=flags.path, help="default: report.html beside the manifest")
    store.runs_flag(parser)
    most = "the most videos of the gallery (default: 20,000); all are counted"
    parser.add_argument("--limit", type=flags.count, default=20_000, help=most)
    parser.add_argument(
        "--threads", type=flags.count, default=environment.cpus(), help=argparse.SUPPRESS
    )
    parser.add_argument("--marker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
