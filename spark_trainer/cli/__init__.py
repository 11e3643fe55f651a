"""The command line: what users type, and the commands that rules run."""

import argparse
import sys
from pathlib import Path
from typing import Any

from spark_trainer import config
from spark_trainer.cli import commands, jobs
from spark_trainer.errors import MACHINE_STATUS, MachineError, UserError


def main(arguments: list[str] | None = None) -> None:
    """Run one command; a user's mistake ends it with a message, not with a trace."""
    options = _parser().parse_args(arguments)
    try:
        sys.exit(options.command(options))
    except (config.ConfigError, UserError) as error:
        sys.exit(f"spark_trainer: {error}")
    except MachineError as error:
        print(f"spark_trainer: {error}", file=sys.stderr)
        sys.exit(MACHINE_STATUS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spark_trainer", description=__doc__)
    known = parser.add_subparsers(required=True, metavar="command")

    def command(
        function: Any, shown: bool = True, configured: bool = True
    ) -> argparse.ArgumentParser:
        text = (function.__doc__ or "").strip().partition("\n")[0]
        if shown:
            added = known.add_parser(function.__name__, description=text, help=text)
        else:
            added = known.add_parser(function.__name__, description=text)
        added.set_defaults(command=function)
        if shown and configured:
            added.add_argument("--config", type=Path, default=Path("config/config.yaml"))
        return added

    commands.preprocess_flags(command(commands.preprocess))
    commands.train_flags(command(commands.train))
    command(commands.validate).add_argument("--manifest", type=Path)
    command(commands.index)
    commands.gallery_flags(command(commands.gallery))
    commands.runs_flags(command(commands.runs))
    commands.gpus_flags(command(commands.gpus, configured=False))
    for function, names in jobs.FLAGS.items():
        job = command(function, shown=False)
        for name in names.split():
            kind = int if name in jobs.NUMBERS else str if name in jobs.TEXTS else Path
            job.add_argument(f"--{name}", type=kind)
    return parser
