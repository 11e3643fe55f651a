"""`python -m spark_trainer …`, and `spark-trainer …` where the package is installed."""

import signal


def main(module: bool = False) -> None:
    """Run one command; `module` tells that the user typed the module's name."""
    # Ctrl-C during imports would print a trace; with the system's handler it just ends the process.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from spark_trainer import cli

    signal.signal(signal.SIGINT, handler)
    cli.main(program=cli.MODULE if module else cli.PROGRAM)


if __name__ == "__main__":
    main(module=True)
