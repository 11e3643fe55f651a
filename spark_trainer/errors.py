"""Whose trouble an error is: the machine's, or that of the input or the settings.

Exit status, class or errno decide it, never the words of a message: those hold file names too.
"""

LONGEST_REASON = 400  # characters: some libraries put the whole input into a message
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
MACHINE_STATUS = 75  # of a process that may succeed when it is tried again (EX_TEMPFAIL)


class SparkTrainerError(Exception):
    """The root of every error that SparkTrainer raises itself; its message is for users."""


class UserError(SparkTrainerError):
    """Something that the user can mend; the message says what."""


class Stopped(SparkTrainerError):
    """A run that was asked to stop and did; `status` is what its command ends with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Refused(SparkTrainerError, ValueError):
    """The input's trouble; the message is the reason that users read."""


class MachineError(SparkTrainerError, RuntimeError):
    """The machine's trouble (memory, disk, network, a killed process): another try may succeed."""


def of_machine(error: BaseException) -> bool:
    """Tell whether an error is the machine's trouble.

    The operating system numbers its own errors. An `OSError` without a number comes from a
    decoder, such as PIL's of an image that is none, and speaks of the bytes.
    """
    if isinstance(error, OSError):
        return error.errno is not None
    return isinstance(error, MachineError | MemoryError)


def told(error: BaseException) -> str:
    """Return the machine's trouble in a line that names the path, where there is one."""
    if isinstance(error, OSError) and error.errno is not None:
        paths = [name for name in (error.filename, error.filename2) if name is not None]
        return ": ".join([error.strerror or type(error).__name__, *map(str, paths)])
    return str(error) or (
        "out of memory" if isinstance(error, MemoryError) else type(error).__name__
    )


def cause(error: BaseException) -> str:
    """Return the system's words for the trouble below a library's error, else the error's own."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__cause__ or below.__context__
    return " ".join(str(error).split()) or type(error).__name__


def unexpected(error: BaseException) -> str:
    """Return what a record or a log says of an error that nobody foresaw."""
    text = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {text[:LONGEST_REASON]}"
