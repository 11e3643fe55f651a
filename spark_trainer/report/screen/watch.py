"""The file in which jobs tell how far they are, read as it grows."""

import os
import tempfile
from pathlib import Path

from spark_trainer.system.progress import PROGRESS_VARIABLE


class Watch:
    """Makes the file, names it to all jobs, and reads it.

    Args:
        folder: where jobs on other machines can write it, too.
    """

    def __init__(self, folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix="progress-", dir=folder)
        os.close(descriptor)
        self.path = Path(name)
        self._file = self.path.open("rb")
        self._rest = b""
        os.environ[PROGRESS_VARIABLE] = str(self.path.resolve())

    def lines(self) -> list[str]:
        """Return the whole lines that came since the last call."""
        *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]

    def end(self) -> None:
        """Remove the file."""
        os.environ.pop(PROGRESS_VARIABLE, None)
        self._file.close()
        self.path.unlink(missing_ok=True)
