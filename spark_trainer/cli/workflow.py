"""The commands that ask Snakemake for targets, from any folder, by the workflow of this package.

Words and flags that are none of ours go on to Snakemake as they are.
"""

import argparse
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from spark_trainer import config
from spark_trainer.cli import commands, flags, snakemake
from spark_trainer.errors import UserError, expected_of
from spark_trainer.report.screen.board import NOT_SHOWN

PASSED_ON = (
    "Flags and words that are not listed here go on to Snakemake, such as --resources gpu=8."
)

# Flags of Snakemake that take all words behind them.
PAIRS = ("--resources", "--res", "--set-resources", "--set-threads", "--default-resources")


def build(options: argparse.Namespace) -> int:
    """Build the manifest and every training run, or the files and targets that are named."""
    _ask((), options)


def manifest(options: argparse.Namespace) -> int:
    """Build frames, audio, transcripts, captions, and the manifest over them."""
    _ask(("manifest",), options)


def _ask(targets: Sequence[str], options: argparse.Namespace) -> NoReturn:
    refuse(options.passed_on)
    snakemake.ask(targets, configuration(options), options.passed_on)


def configuration(options: argparse.Namespace) -> Path:
    """Return the configuration's file, with what `--set` gives where Snakemake will find it.

    Raises:
        UserError: there is none, or it can't be used.
    """
    path: Path = options.config
    if not path.exists() and not path.is_absolute():
        raise UserError(
            f"{path}: no such file in this folder; `spark-trainer init` writes config/config.yaml, "
            "and --config names another"
        )
    config.read(path)
    if options.set:
        path = snakemake.kept(config.mapping(path))
        options.config.unlink()  # it was made for this command
    return path


def refuse(words: Sequence[str]) -> None:
    """Refuse what Snakemake would not know, or take for something else.

    Args:
        words: those that go on to it.

    Raises:
        UserError: a flag is one of other commands, a target stands where none is read, or is none.
    """
    asked = {flag: ".".join(key) for flag, key in commands.PREPROCESS_FLAGS.items()}
    asked |= {flag: f"train.{flag}" for flag in flags.OF_RUN}
    keys = {f"--{flag.replace('_', '-')}": key for flag, key in asked.items()}
    for word in words:
        flag = word.partition("=")[0]
        if flag in keys:
            raise UserError(f"{flag}: expected --set {keys[flag]}=…")
    taking = ""
    for word in words:
        if word.startswith("-"):
            taking = word if word in PAIRS else ""
        elif taking and "=" not in word:
            raise UserError(f"{word}: {taking} takes NAME=VALUE alone; name targets before flags")
    _look(itertools.takewhile(lambda word: not word.startswith("-"), words))


def _look(words: Iterable[str]) -> None:
    """Refuse a target that is neither one of the workflow's nor looks like a file."""
    for word in words:
        if word not in NOT_SHOWN and not {"/", "."} & {*word}:
            raise UserError(f"no target {word!r}; {expected_of(word, NOT_SHOWN)}, or a file")
