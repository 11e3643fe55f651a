"""`--set KEY=VALUE`: keys laid over the configuration, as if they were written in its file."""

import argparse
import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from spark_trainer import config
from spark_trainer.cli import flags
from spark_trainer.errors import UserError

EXAMPLE = "train.learning_rate=1e-4"
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # YAML takes `1e-4` for text


def set_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which configuration a command reads."""
    named = "the configuration's file (default: config/config.yaml)"
    default = Path("config/config.yaml")
    parser.add_argument("--config", type=file, action=_Once, default=default, help=named)
    # As Snakemake calls it.
    hidden = argparse.SUPPRESS
    parser.add_argument("--configfile", type=file, action=_Once, dest="config", help=hidden)
    laid = f"a key of the configuration, such as {EXAMPLE}; may be given several times"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=laid)


class _Once(argparse.Action):
    """A flag that is given once: of two files, the first would be left out in silence."""

    def __call__(
        self, parser: argparse.ArgumentParser, options: Any, value: Any, flag: str | None = None
    ) -> None:
        """Take its value."""
        if getattr(options, "taken", False):
            parser.error(f"{flag}: expected one file (got {options.config} and {value})")
        options.taken, options.config = True, value


@contextlib.contextmanager
def laid_over(options: argparse.Namespace) -> Iterator[None]:
    """Let a command read a file that holds what `--set` gives as well.

    Raises:
        UserError: a value is none of KEY=VALUE, or the configuration with it can't be used.
    """
    given: Sequence[str] = getattr(options, "set", [])
    if not given:
        yield
        return
    data = over(options.config, given)
    descriptor, name = tempfile.mkstemp(prefix="config-", suffix=".yaml")
    try:
        with open(descriptor, "w", encoding="utf-8") as written:
            yaml.safe_dump(data, written, allow_unicode=True)
        options.config = Path(name)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):  # the workflow keeps it
            os.unlink(name)


def over(path: Path, given: Sequence[str]) -> dict[str, Any]:
    """Lay keys over a configuration file.

    Args:
        path: the file.
        given: `KEY=VALUE` each, the value in YAML.

    Raises:
        ConfigError: the result can't be used; the message names the key.
        UserError: one is no KEY=VALUE.
    """
    overlay: dict[str, Any] = {}
    for text in given:
        overlay = flags.over_config(overlay, nested(text))
    data = flags.over_config(config.mapping(path), overlay)
    try:
        config.load(data)
    except config.ConfigError as error:
        config.read(path)  # a mistake of the file's own is told as that
        lines = (f"--set {line}" for line in str(error).splitlines())
        raise config.ConfigError("\n".join(lines)) from None
    return data


def file(text: str) -> Path:
    """Read the name of a configuration's file; Snakemake's flag of this name takes KEY=VALUE."""
    path = flags.path(text)
    if "=" in text and not path.exists():
        raise argparse.ArgumentTypeError(f"expected a file (got {text!r}); a key is given by --set")
    return path


def nested(text: str, flag: str = "--set", example: str = EXAMPLE) -> dict[str, Any]:
    """Read `KEY=VALUE` as a configuration of that key alone.

    Args:
        text: what was given.
        flag: by which, for messages.
        example: of such a text.

    Raises:
        UserError: it is none.
    """
    key, equals, written = text.partition("=")
    names = key.split(".")
    if not equals or not all(names):
        raise UserError(f"{flag} {text}: expected KEY=VALUE, such as {example}")
    value: Any
    try:
        value = float(written) if EXPONENT.fullmatch(written) else yaml.safe_load(written)
    except yaml.YAMLError:
        raise UserError(f"{flag} {key}: expected a value in YAML (got {written!r})") from None
    if flag == "--set" and names[0] in config.Config.flat_keys:
        names.insert(0, config.Config.flat_keys[names[0]])
    for name in reversed(names):
        value = {name: value}
    found: dict[str, Any] = value
    return found
