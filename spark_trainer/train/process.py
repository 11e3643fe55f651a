"""One training process, from its start to the line and the status that it ends with.

Started by `processes` as `python -m spark_trainer.train.process <run folder>`, once per process.
"""

import atexit
import os
import sys
from pathlib import Path
from typing import NoReturn

import torch

from spark_trainer.errors import MACHINE_STATUS, SparkTrainerError, Stopped, of_machine, told
from spark_trainer.system import environment, gpu, log
from spark_trainer.train import processes, setup, stop
from spark_trainer.train.loop import Trainer

KNOWN = (SparkTrainerError, ValueError, OSError, torch.OutOfMemoryError)


def main() -> NoReturn:
    """Train the run whose folder is the only argument, and end the process."""
    environment.end_with_launcher()
    environment.quiet_libraries()
    asked = stop.Asked(stop.nothing_to_save)
    try:
        gpu.hold()
        trainer = Trainer.build(setup.prepare(Path(sys.argv[1])), asked)
        asked.hear = stop.wait_for_loop  # which saves
        if trainer.setup.launched.device == "cpu":
            environment.keep_freed_memory()
        trainer.train()
        # A process that leaves while another still writes may end with an error after all is done.
        trainer.setup.accelerator.wait_for_everyone()
        trainer.setup.accelerator.end_training()
    except Stopped as stopped:
        asked.hear = stop.wait_for_loop
        if log.logger.handlers:  # of the main process
            log.failed(str(stopped))
        _end(str(stopped), stopped.status)
    except Exception as error:
        asked.hear = stop.wait_for_loop  # the launcher tells all to end where another failed too
        _fail(error, of_machine(error))
    _leave(0)


def _fail(error: Exception, machine: bool) -> NoReturn:
    if machine or isinstance(error, KNOWN):
        text = _said(error)
        (log.failed if log.logger.handlers else log.logger.error)(text)
    else:
        text = f"unexpected {type(error).__name__}: {error}"
        log.logger.error("%s", text, exc_info=error)
    _end(text, MACHINE_STATUS if machine else 1)


def _said(error: Exception) -> str:
    """Return what a user reads of an error; what the system says names a file."""
    if isinstance(error, OSError) and of_machine(error):
        return f"{told(error)}; once that is mended, the same command goes on"
    return str(error) or type(error).__name__


def _end(words: str, status: int) -> NoReturn:
    """Leave the reason for the process that started this one, or say it where there is none."""
    if not processes.report(words):
        print(f"spark_trainer: {words}", file=sys.stderr)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """End with this status and no other, without taking the interpreter apart.

    Gloo's threads outlive `destroy_process_group`, for the wrapped model holds the group; one that
    wakes when Python is gone aborts the process: a finished run of two processes ended by signal 6.
    """
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
