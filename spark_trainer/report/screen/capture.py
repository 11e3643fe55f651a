"""What other processes write to the terminal, while a panel stands there."""

import fcntl
import os
import tempfile


class Capture:
    """Lets this process's terminal streams lead to a file, for it and all that it starts.

    A file and not a pipe: processes that outlive this one can go on writing to it. It has no name
    and is gone with the last of them.

    Attributes:
        terminal: a descriptor of the terminal itself.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        inside = self._file.fileno()
        fcntl.fcntl(inside, fcntl.F_SETFL, os.O_APPEND | os.O_RDWR)
        self.terminal = os.dup(2)
        self._before = {number: os.dup(number) for number in (1, 2) if os.isatty(number)}
        for number in self._before:
            os.dup2(inside, number)
        self._read = 0
        self._rest = b""

    @property
    def unfinished(self) -> str:
        """The newest line without an end, as a bar writes it again and again."""
        bars = [part for part in self._rest.split(b"\r") if part.strip()]
        return bars[-1].decode("utf-8", "replace") if bars else ""

    def lines(self, last: bool = False) -> list[str]:
        """Return the whole lines that came since the last call.

        Args:
            last: take one without an end, too.
        """
        found = b""
        while new := os.pread(self._file.fileno(), 1 << 20, self._read):
            self._read += len(new)
            found += new
        *whole, self._rest = (self._rest + found).split(b"\n")
        if last:
            whole, self._rest = [*whole, *([self._rest] if self._rest else [])], b""
        ends = (line.rstrip(b"\r").rpartition(b"\r")[2] for line in whole)  # of what a bar was last
        return [line.decode("utf-8", "backslashreplace") for line in ends if line.strip()]

    def end(self) -> None:
        """Let the streams lead to the terminal again."""
        for number, before in self._before.items():
            os.dup2(before, number)
            os.close(before)
        self._before = {}
