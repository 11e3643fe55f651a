"""The command that shows the GPUs of this machine."""

import argparse
import sys


def gpus(options: argparse.Namespace) -> int:
    """Show which GPUs may be used here, and who holds them."""
    from spark_trainer.system.gpu import table

    found = table.rows()
    if not found:
        print("no GPU here", file=sys.stderr)
    elif options.json:
        print("\n".join(row.json() for row in found))
    else:
        print(table.table(found))
    return 0


def gpus_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `gpus`."""
    parser.add_argument("--json", action="store_true", help="a line of JSON for each GPU")
