"""Snakemake as our commands call it: a line for a wrong flag, and no word of the profile.

It has no flag for either. Its usage has 36 lines, of which the last says what was wrong.
"""

import contextlib
import importlib
import io
import signal
import sys
from collections.abc import Sequence
from typing import Any


def main() -> None:
    """Run the command of `sys.argv`."""
    # Ctrl-C during imports would print a trace; with the system's handler it just ends the process,
    # until the profile has set one that says a line.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from spark_trainer.report import console

    cli: Any = importlib.import_module("snakemake.cli")
    read = cli.parse_args

    def quietly(words: Sequence[str] | None) -> Any:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                return read(words)
            except SystemExit as ended:
                if not isinstance(ended.code, int) or not ended.code:
                    raise
            finally:
                if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # no profile was read
                    signal.signal(signal.SIGINT, handler)
        line = said.getvalue().strip().rpartition("\n")[2]
        wrong = line.partition(" error: ")[2]
        sys.exit(f"spark_trainer: {wrong}; see snakemake --help" if wrong else line)

    console.prepare_streams()
    cli.parse_args = quietly
    try:
        cli.main()
    finally:
        cli.parse_args = read


if __name__ == "__main__":
    main()
