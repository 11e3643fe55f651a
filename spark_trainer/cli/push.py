"""The command that sends a finished run or an export to a hub."""

import argparse
import sys
from pathlib import Path

from spark_trainer import config
from spark_trainer.cli import store
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError


def push(options: argparse.Namespace) -> int:
    """Send the model of a finished run, or an export, to a hub; private unless --public."""
    from spark_trainer.hub import push as hub
    from spark_trainer.hub import upload
    from spark_trainer.store.lineage import Runs

    target = hub.Target(options.to, options.revision, options.public)
    layout = Layout(Path(config.read(options.config).output_dir))
    runs = Runs(store.run_folders(options))
    chosen = store.find_run(options.what, runs.folders.values())
    if chosen is not None:
        due = upload.of_run(chosen, runs, layout)
    else:
        due = upload.of_export(Path(options.what), layout)
    if options.dry_run:
        print(f"would go to {target}:", *due.told(), sep="\n")
        return 0
    if due.forgotten and not options.with_forgotten:
        listed = "".join(f"\n  {one}" for one in due.forgotten)
        raise UserError(f"a forgotten video is in it; expected --with-forgotten:{listed}")
    print(*due.noted(), sep="\n", file=sys.stderr)
    for line in hub.push(due, target):
        print(line)
    return 0


def push_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `push`."""
    parser.add_argument("what", help="a finished run (name, id or folder), or an export's folder")
    to = "the repository at the hub; it is made where there is none"
    parser.add_argument("--to", required=True, metavar="USER/NAME", help=to)
    seen = "everybody may see it; a repository that is made is private otherwise"
    parser.add_argument("--public", action="store_true", help=seen)
    branch = "the branch, which is made where there is none (default: main)"
    parser.add_argument("--revision", metavar="BRANCH", help=branch)
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and stop")
    gone = "also where a video that was forgotten is in it"
    parser.add_argument("--with-forgotten", action="store_true", help=gone)
    store.runs_flag(parser)
