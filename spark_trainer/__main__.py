"""`python -m spark_trainer …`, and `spark-trainer …` where the package is installed."""

import signal

MODULE, PROGRAM = "python -m spark_trainer", "spark-trainer"


def main(program: str = PROGRAM) -> None:
    """Run one command."""
    # Ctrl-C during imports would print a trace; with the system's handler it just ends the process.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from spark_trainer import cli

    signal.signal(signal.SIGINT, handler)
    cli.main(program=program)


if __name__ == "__main__":
    main(MODULE)
