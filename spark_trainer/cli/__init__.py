"""The command line: the commands for users, and those that rules run."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import spark_trainer
from spark_trainer.cli import (
    commands,
    export,
    given,
    gpus,
    hand,
    jobs,
    memory,
    plan,
    push,
    report,
    start,
    store,
    train,
    workflow,
)
from spark_trainer.errors import MACHINE_STATUS, Stopped, UserError, expected_of, of_machine, told
from spark_trainer.report import console, failures
from spark_trainer.system import environment, log

USER_STATUS = 1
BUG_STATUS = 70  # EX_SOFTWARE
PROGRAM, MODULE = "spark-trainer", "python -m spark_trainer"
OF_A_STORE = {"diff", "list"}  # words that make `manifest` tell, not build


def main(arguments: list[str] | None = None, program: str = MODULE) -> None:
    """Run one command. A failure is one line on the terminal, and the exit status tells its cause.

    1 is an error of the user or the settings, 75 of the machine, 130 is Ctrl-C, and 70 a bug of
    SparkTrainer, whose trace goes to the log.

    Args:
        arguments: the words after the program's name; those of this process by default.
        program: what the user typed, for messages.
    """
    console.prepare_streams()
    environment.keep_bytecode()
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments, program))


def _run(arguments: list[str], program: str) -> int:
    options = argparse.Namespace(log=None)
    try:
        options = _read(arguments, program)
        if options.log:
            failures.begin(log.name_file().parent, options.log)
        with given.laid_over(options):
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

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Name the word that was meant; the commands of rules are none that a user means."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            shown = [choice.dest for choice in action._choices_actions]
            raise UserError(f"no command {value!r}; {expected_of(str(value), shown)}")
        super()._check_value(action, value)


def _read(arguments: list[str], program: str) -> argparse.Namespace:
    """Read the command line; what the workflow's commands don't know is Snakemake's."""
    parser = _parser(program, about_a_store=bool(OF_A_STORE.intersection(arguments)))
    options, passed_on = parser.parse_known_args(arguments)
    if passed_on and "passed_on" not in options:
        unknown = f"unrecognized arguments: {' '.join(passed_on)}"
        raise UserError(f"{unknown}; see {program} {_name(options)} --help")
    options.passed_on = passed_on
    return options


def _parser(program: str, about_a_store: bool = False) -> argparse.ArgumentParser:
    """Make the parser of every command.

    Args:
        program: its name, as the user typed it.
        about_a_store: whether `manifest` is the command that tells of manifests that are there.
    """
    parser = _Parser(prog=program, description=spark_trainer.__doc__)
    parser.set_defaults(log=None)
    version = "show the version, and the commit where it is known"
    parser.add_argument("--version", action=start.Version, nargs=0, help=version)
    shells = "show what a shell reads to complete commands and flags"
    completion = "--print-completion"
    parser.add_argument(completion, action=start.Completion, choices=start.SHELLS, help=shells)
    known = parser.add_subparsers(required=True, metavar="command")

    def command(
        function: Any, shown: bool = True, configured: bool = True
    ) -> argparse.ArgumentParser:
        text = (function.__doc__ or "").strip().partition("\n")[0]
        asks = function.__module__ in (train.__name__, workflow.__name__)
        made: dict[str, Any] = {"description": text, "allow_abbrev": not asks}
        if shown:
            made["help"] = text
        if asks:
            made["epilog"] = workflow.PASSED_ON
        added = known.add_parser(function.__name__, **made)
        added.set_defaults(command=function)
        if asks:
            added.set_defaults(passed_on=[])
        if shown and configured:
            given.set_flags(added)
        return added

    _add_commands(command, about_a_store)
    return parser


def _add_commands(command: Callable[..., Any], about_a_store: bool) -> None:
    start.init_flags(command(start.init, configured=False))
    start.settings_flags(command(start.settings, configured=False))
    command(workflow.build)
    if about_a_store:
        store.manifest_flags(command(store.manifest))
    else:
        command(workflow.manifest)
    train.train_flags(command(train.train))
    commands.preprocess_flags(command(commands.preprocess))
    commands.validate_flags(command(commands.validate))
    command(commands.index)
    report.report_flags(command(report.report))
    report.report_flags(command(report.gallery))
    export.export_flags(command(export.export))
    commands.runs_flags(command(commands.runs))
    plan.plan_flags(command(plan.plan))
    store.lineage_flags(command(store.lineage))
    push.push_flags(command(push.push))
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
