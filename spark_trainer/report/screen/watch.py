"""The file in which jobs tell how far they are, read as it grows."""

import os
from pathlib import Path

from spark_trainer.system import holder
from spark_trainer.system.progress import PROGRESS_VARIABLE

PREFIX = "progress-"


class Watch:
    """Makes the file, names it to all jobs, and reads it; first removes those of killed commands.

    Args:
        folder: where jobs on other machines can write it, too.

    Raises:
        OSError: it can't be written.
    """

    def __init__(self, folder: Path) -> None:
        for path in folder.glob(f"{PREFIX}*"):
            process = holder.parse(path.name.removeprefix(PREFIX))
            if process and process.dead:
                path.unlink(missing_ok=True)
        self.path = folder / f"{PREFIX}{holder.this()}"
        self._file = self.path.open("w+b")
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
