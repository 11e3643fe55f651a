"""The command line: the commands for users, and those that rules run."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from spark_trainer.cli import commands, flags, gpus, hand, jobs, memory, plan, report, store
from spark_trainer.errors import MACHINE_STATUS, Stopped, UserError, of_machine, told
from spark_trainer.report import console, failures
from spark_trainer.system import log

USER_STATUS = 1
BUG_STATUS = 70  # EX_SOFTWARE


def main(arguments: list[str] | None = None) -> None:
    """Run one command. A failure is one line on the terminal, and the exit status tells its cause.

    1 is an error of the user or the settings, 75 of the machine, 130 is Ctrl-C, and 70 a bug of
    SparkTrainer, whose trace goes to the log.
    """
    console.prepare_streams()
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    options = argparse.Namespace(log=None)
    try:
        options = _parser().parse_args(arguments)
        if options.log:
            failures.begin(log.name_file().parent, options.log)
        status = int(options.command(options))
    except KeyboardInterrupt:
        console.say("interrupted")
        status = console.INTERRUPTED
    except BrokenPipeError:  # of `… | head`: nobody reads the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = USER_STATUS
    except (failures.Hopeless, Stopped) as error:
        return _failed(options, str(error), error.status)
    except UserError as error:
        return _failed(options, str(error), USER_STATUS)
    except Exception as error:
        if of_machine(error):
            return _failed(options, told(error), MACHINE_STATUS)
        return _bug(options, error)
    failures.end(status, "")
    return status


def _failed(options: argparse.Namespace, message: str, status: int) -> int:
    """Say why a command failed, in its logs as well where it has some."""
    try:
        if log.started(_name(options), options.log):
            log.failed(message)
        failures.end(status, message)
    except OSError as error:
        console.say(f"the log can't be written: {told(error)}")
    console.say(message)
    return status


def _bug(options: argparse.Namespace, error: Exception) -> int:
    """Say where the trace of an unexpected error is; print it where there can be no log."""
    text = " ".join(f"unexpected {type(error).__name__}: {error}".split())
    try:
        if not log.started(_name(options), options.log):
            log.start(_name(options))
        log.failed(text, error)
        where = f"its trace is in {os.path.relpath(log.name_file())}"
        failures.end(BUG_STATUS, text)
    except OSError:
        sys.excepthook(type(error), error, error.__traceback__)
        where = "its trace is above"
    console.say(f"{text}; this is a bug of SparkTrainer, {where}")
    return BUG_STATUS


def _name(options: argparse.Namespace) -> str:
    return str(getattr(options, "command", main).__name__)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like those of every other command."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m spark_trainer", description=__doc__)
    parser.set_defaults(log=None)
    known = parser.add_subparsers(required=True, metavar="command")

    def command(
        function: Any, shown: bool = True, configured: bool = True
    ) -> argparse.ArgumentParser:
        text = (function.__doc__ or "").strip().partition("\n")[0]
        if shown:
            added = known.add_parser(function.__name__, description=text, help=text)
        else:
            added = known.add_parser(function.__name__, description=text)
        added.set_defaults(command=function)
        if shown and configured:
            added.add_argument("--config", type=flags.path, default=Path("config/config.yaml"))
        return added

    commands.preprocess_flags(command(commands.preprocess))
    commands.train_flags(command(commands.train))
    commands.validate_flags(command(commands.validate))
    command(commands.index)
    report.report_flags(command(report.report))
    report.report_flags(command(report.gallery))
    commands.runs_flags(command(commands.runs))
    plan.plan_flags(command(plan.plan))
    store.lineage_flags(command(store.lineage))
    store.manifest_flags(command(store.manifest))
    hand.correct_flags(command(hand.correct))
    store.forget_flags(command(store.forget))
    store.gc_flags(command(store.gc))
    gpus.gpus_flags(command(gpus.gpus, configured=False))
    memory.memory_flags(command(memory.memory))
    for function, names in jobs.FLAGS.items():
        job = command(function, shown=False)
        for name in names.split():
            kind = int if name in jobs.NUMBERS else str if name in jobs.TEXTS else Path
            job.add_argument(f"--{name}", type=kind)
    return parser
