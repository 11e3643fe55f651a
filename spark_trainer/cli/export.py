"""The command that makes data sets for other tools of the manifest that is there."""

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from spark_trainer import config, exports
from spark_trainer.cli import commands, flags, given
from spark_trainer.config import Config, Export
from spark_trainer.config.exports import Format, Media
from spark_trainer.config.reading import validated
from spark_trainer.data.files import write_json
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError
from spark_trainer.graph.exports import configured, place
from spark_trainer.system import log

EXAMPLE = "split.validation=0"
UNNAMED = "export"  # what messages call an export that no configuration names


def export(options: argparse.Namespace) -> int:
    """Make data sets for other tools: those of the configuration, or one by --to and --out."""
    settings = config.read(options.config)
    layout = Layout(Path(settings.output_dir))
    if options.log:
        log.start(f"export {' '.join(options.names)}", options.log)
    if options.marker:
        commands.withdraw(options.marker)
    for key, chosen, folder in _wanted(options, settings):
        made = exports.make(chosen, layout, folder, key)
        if options.log:
            log.keep(f"left out: {name!a}: {why}" for name, why in made.note.left_out)
        print(made, *made.told(), sep="\n  ", file=sys.stderr)
    if options.marker:
        write_json(options.marker, {"videos": made.note.videos})
    return 0


def export_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `export`."""
    named = "of `exports` in the configuration (default: all of them)"
    parser.add_argument("names", nargs="*", metavar="NAME", help=named)
    formats = get_args(Format)
    parser.add_argument("--to", choices=formats, metavar="FORMAT", help=f"{', '.join(formats)}")
    parser.add_argument("--out", type=flags.path, help="the folder that --to makes")
    described = f"{Export.model_fields['media'].description}"
    parser.add_argument("--media", choices=get_args(Media), help=described)
    option = f"another key of an export, such as {EXAMPLE}; may be given several times"
    parser.add_argument("--option", action="append", metavar="KEY=VALUE", default=[], help=option)
    parser.add_argument("--marker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)


def _wanted(options: argparse.Namespace, settings: Config) -> list[tuple[str, Export, Path]]:
    """List the exports that are asked for: where the settings stand, these, and the folder.

    Raises:
        ConfigError: the settings of one can't be.
        UserError: there is none, or the flags don't fit together.
    """
    if options.to:
        if options.names or not options.out:
            raise UserError("--to: expected --out with it, and no names")
        return [(UNNAMED, exports.resolved(_unnamed(options), UNNAMED), options.out)]
    if options.out or options.media or options.option:
        raise UserError("--out, --media, --option: expected --to with them")
    known = configured(settings)
    if unknown := [name for name in options.names if name not in known]:
        listed = ", ".join(known) or "none is configured"
        raise UserError(f"{unknown[0]}: no such export; expected one of: {listed}")
    if not known:
        raise UserError("exports: none is configured; expected some, or --to and --out")
    names = options.names or known
    return [(f"exports.{name}", known[name], place(known[name], name)) for name in names]


def _unnamed(options: argparse.Namespace) -> Export:
    values: dict[str, Any] = {"to": options.to}
    if options.media:
        values["media"] = options.media
    for text in options.option:
        values = flags.over_config(values, given.nested(text, "--option", EXAMPLE))
    return validated(Export, values, UNNAMED)
