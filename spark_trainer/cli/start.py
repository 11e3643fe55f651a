"""The commands for a start: a configuration, what may stand in it, completion in the shell."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from spark_trainer import __version__
from spark_trainer.cli import flags, given
from spark_trainer.config import described
from spark_trainer.errors import UserError
from spark_trainer.system import origin

PATHS = (Path, flags.path, given.file)
SHELLS = ("bash", "zsh", "tcsh", "fish")


def init(options: argparse.Namespace) -> int:
    """Write a configuration of the few keys that people set, and nothing else."""
    shipped = origin.workflow()
    target = options.folder / "config/config.yaml"
    profile = options.folder / "slurm"
    for path in (target, profile) if options.slurm else (target,):
        if path.exists() or path.is_symlink():
            raise UserError(f"{path} is there already; nothing was written")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text((shipped / "config/start.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    if options.slurm:
        shutil.copytree(shipped / "profiles/slurm", profile)
    steps = [f"{target}: say where your videos are and which models to take"]
    steps += (
        [f"{profile / 'cluster.yaml'}: name your cluster's partitions"] if options.slurm else []
    )
    steps += [f"cd {options.folder}"] if options.folder.resolve() != Path.cwd() else []
    profiled = " --profile slurm" if options.slurm else ""
    steps += ["spark-trainer validate", f"spark-trainer manifest{profiled}"]
    print("then:", *(f"  {step}" for step in steps), sep="\n", file=sys.stderr)
    return 0


def init_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `init`."""
    where = "made if it is not there (default: this folder)"
    parser.add_argument("folder", nargs="?", type=flags.path, default=Path(), help=where)
    slurm = "write the profile of a Slurm cluster too, for `--profile slurm`"
    parser.add_argument("--slurm", action="store_true", help=slurm)


def settings(options: argparse.Namespace) -> int:
    """Show every key of the configuration with its meaning and default, or those below one."""
    print(described.default_yaml(options.key), end="")
    return 0


def settings_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `settings`."""
    named = "such as train, train.lora or train.learning_rate"
    parser.add_argument("key", nargs="?", help=named)


class Version(argparse.Action):
    """The flag that shows the version, and the commit where it is known."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Show it and end."""
        commit = origin.commit()
        print(f"spark-trainer {__version__}" + (f" ({commit})" if commit else ""))
        parser.exit()


class Completion(argparse.Action):
    """The flag that shows what a shell reads to complete commands and flags."""

    def __call__(
        self, parser: argparse.ArgumentParser, _: Any, shell: Any, option: str | None = None
    ) -> None:
        """Show it and end."""
        import shtab

        for one in _parsers(parser):
            for action in one._actions:
                if action.type in PATHS:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        parser.prog = origin.PACKAGE  # a shell can't complete `python -m spark_trainer`
        print(shtab.complete(parser, shell))
        parser.exit()


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """List a parser and those of its commands."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += action.choices.values()
    return found
