"""The classes of errors: caused by the machine, by the input, or by the user's settings.

Exit status, class or errno decide, never the words of a message, which may be part of a file name.
"""

import difflib
from collections.abc import Iterable

NEAR = 0.75  # of difflib's 0 to 1: a letter or two are wrong
LONGEST_REASON = 400  # characters: some libraries put the whole input into a message
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
BUSY = (408, 425, 429)  # HTTP statuses of a server that may answer later
MACHINE_STATUS = 75  # of a process that may succeed when it is tried again (EX_TEMPFAIL)


class SparkTrainerError(Exception):
    """The root of every error that SparkTrainer raises itself; its message is for users."""


class UserError(SparkTrainerError):
    """An error that the user can mend; the message says how."""


class Stopped(SparkTrainerError):
    """A run was asked to stop and did; `status` is the exit status of its command."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Refused(SparkTrainerError, ValueError):
    """The input can't be used; the message is the reason that users read."""


class MachineError(SparkTrainerError, RuntimeError):
    """The machine failed (memory, disk, network, a killed process): another try may succeed."""


def of_machine(error: BaseException) -> bool:
    """Tell whether the machine caused an error.

    Errors of the operating system have a number. An `OSError` without one comes from a decoder,
    such as PIL for a file that is no image, and is about the file's content.
    """
    if isinstance(error, OSError):
        return error.errno is not None
    return isinstance(error, MachineError | MemoryError)


def told(error: BaseException) -> str:
    """Describe an error of the machine in one line, with the path where there is one."""
    if isinstance(error, OSError) and error.errno is not None:
        paths = [name for name in (error.filename, error.filename2) if name is not None]
        return ": ".join([error.strerror or type(error).__name__, *map(str, paths)])
    return str(error) or (
        "out of memory" if isinstance(error, MemoryError) else type(error).__name__
    )


def cause(error: BaseException) -> str:
    """Return the system's message below a library's error, else the error's own message."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__cause__ or below.__context__
    return " ".join(str(error).split()) or type(error).__name__


def unexpected(error: BaseException) -> str:
    """Describe an unexpected error for a record or a log."""
    text = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {text[:LONGEST_REASON]}"


def expected_of(word: str, known: Iterable[str]) -> str:
    """Say which word was meant, or which ones are known where none is near.

    Args:
        word: what the user wrote.
        known: what could stand there.
    """
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=NEAR)
    return f"did you mean {near[0]}?" if near else f"expected one of: {', '.join(words)}"
