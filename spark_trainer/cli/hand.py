"""The command `correct`: what a person says of a video."""

import argparse
import sys
from pathlib import Path

from spark_trainer import config
from spark_trainer.data.corrections import KINDS, SPOKEN
from spark_trainer.data.files import canonical_json
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError, told


def correct(options: argparse.Namespace) -> int:
    """Correct a caption or transcript by hand, flag a video, or exclude it."""
    from spark_trainer.data import corrections
    from spark_trainer.store import clips
    from spark_trainer.store import correct as hand

    settings = config.read(options.config)
    clip = clips.find(Layout(Path(settings.output_dir)), options.video)
    editor = hand.Editor(settings, options.author or hand.author())
    given = {kind: getattr(options, kind) for kind in KINDS}
    said = {kind: text for kind, text in given.items() if text is not None}
    cleared = dict.fromkeys(KINDS if options.clear == [] else options.clear or ())
    if both := sorted(said.keys() & cleared.keys()):
        raise UserError(f"--{both[0]}: expected it or --clear, not both")
    if SPOKEN in said and said[SPOKEN].startswith("@"):
        said[SPOKEN] = _read(Path(said[SPOKEN][1:]))
    if said or cleared:
        now = editor.correct(clip.hash, said | cleared)
        print("written; the next build re-does what reads it", file=sys.stderr)
    else:
        now = corrections.find(settings.corrections, clip.hash)
    for kind, one in now.said.items():
        print(f"{kind}: {canonical_json(one.model_dump(mode='json'))}")
    return 0


def correct_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `correct`."""
    parser.add_argument("video", help="its file, its hash, or the beginning of its hash")
    parser.add_argument("--caption", metavar="TEXT", help="what the video shows")
    spoken = (
        "what is said in it, as text, SRT or VTT; or @ and a file of that; '' where nobody speaks"
    )
    parser.add_argument("--transcript", metavar="TEXT|@FILE", help=spoken)
    parser.add_argument("--flag", metavar="TEXT", help="a remark, which stands in the manifest")
    parser.add_argument("--exclude", metavar="REASON", help="leave the video out of the manifest")
    back = "take back what was said; all of it, or the kinds that are named"
    parser.add_argument("--clear", nargs="*", choices=KINDS, metavar="KIND", help=back)
    parser.add_argument("--author", help="who says so (default: the user's name, as git has it)")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"--{SPOKEN}: {told(error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"--{SPOKEN}: {path}: expected text in UTF-8") from None
