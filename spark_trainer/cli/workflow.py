"""The commands that ask Snakemake for targets, from any folder, by the workflow of this package.

Words and flags that are none of ours go on to Snakemake as they are.
"""

import argparse
import itertools
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from spark_trainer import config
from spark_trainer.cli import commands, snakemake
from spark_trainer.errors import UserError, expected_of
from spark_trainer.report.screen.board import NOT_SHOWN
from spark_trainer.system import log

PASSED_ON = (
    "Flags and words that are not listed here go on to Snakemake, such as --resources gpu=8."
)


def build(options: argparse.Namespace) -> int:
    """Build the manifest and every training run, or the files and targets that are named."""
    _ask((), options)


def manifest(options: argparse.Namespace) -> int:
    """Build frames, audio, transcripts, captions, and the manifest over them."""
    _ask(("manifest",), options)


def train(options: argparse.Namespace) -> int:
    """Build the manifest, then train every run of the configuration."""
    _ask(("train",), options)


def _ask(targets: Sequence[str], options: argparse.Namespace) -> NoReturn:
    _refuse(options.passed_on)
    _look(itertools.takewhile(lambda word: not word.startswith("-"), options.passed_on))
    path: Path = options.config
    if not path.exists() and not path.is_absolute():
        raise UserError(
            f"{path}: no such file in this folder; `spark-trainer init` writes config/config.yaml, "
            "and --config names another"
        )
    config.read(path)
    if options.set:
        kept = log.name_file().with_name("config.yaml")
        kept.parent.mkdir(parents=True, exist_ok=True)
        path = Path(shutil.move(path, kept))
    snakemake.ask(targets, path, options.passed_on)


def _look(words: Iterable[str]) -> None:
    """Refuse a target that is neither one of the workflow's nor looks like a file."""
    for word in words:
        if word not in NOT_SHOWN and not {"/", "."} & {*word}:
            raise UserError(f"no target {word!r}; {expected_of(word, NOT_SHOWN)}, or a file")


def _refuse(words: Sequence[str]) -> None:
    """Refuse flags that only the commands without `--set` have: Snakemake doesn't know them."""
    asked = {flag: ".".join(key) for flag, key in commands.PREPROCESS_FLAGS.items()}
    asked |= {flag: f"train.{flag}" for flag in commands.TRAIN_FLAGS}
    keys = {f"--{flag.replace('_', '-')}": key for flag, key in asked.items()}
    for word in words:
        flag = word.partition("=")[0]
        if flag in keys:
            raise UserError(f"{flag}: expected --set {keys[flag]}=…")
