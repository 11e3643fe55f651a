"""A build as a panel on a terminal: a row for each step, drawn anew as it goes on."""

import io
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spark_trainer.report.screen.board import Row, lasting
from spark_trainer.report.screen.capture import Capture
from spark_trainer.report.screen.current import Screen
from spark_trainer.report.screen.gpus import Gpus
from spark_trainer.system.log import plain

BESIDE = 3  # lines below the rows: the time, what is being written, and the cursor's
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Panel(Screen):
    """Rows that change, and above them what is said meanwhile.

    Args:
        stats: the jobs that are due, by rule.
        folder: where jobs tell how far they are.

    Raises:
        OSError: there is no room for what other processes write.
    """

    TICK_SECONDS = 0.2

    def __init__(self, stats: Mapping[str, int], folder: Path) -> None:
        self._capture: Capture | None = None
        capture = Capture()
        try:
            super().__init__(stats, folder)
            if self.board.rows:
                self._live = self._begun(capture)
                self._capture = capture  # last: from now on the other thread draws
        finally:
            if self._capture is None:  # else all that is said from now on would be lost
                capture.end()

    def _begun(self, capture: Capture) -> Live:
        """Draw the rows for the first time."""
        stream = io.TextIOWrapper(
            io.FileIO(capture.terminal, "w", closefd=True),
            encoding="utf-8",
            errors="replace",
            write_through=True,
        )
        self._console, self._gpus = Console(file=stream, force_terminal=True), Gpus()
        live = Live(console=self._console, auto_refresh=False, get_renderable=self._table)
        live.start()
        self._console.show_cursor(True)  # a killed process leaves it as it is
        return live

    def say(self, line: str) -> None:
        """Print lines above the rows, if there are any."""
        if not self._capture:
            super().say(line)
            return
        with self._lock:
            for one in line.splitlines():
                self._console.print(Text(plain(one)), highlight=False, soft_wrap=True)

    def draw(self) -> None:
        """Draw the rows."""
        if not self._capture:
            return
        for line in self._capture.lines():
            self.say(line)
        self._live.refresh()

    def ended(self, row: Row) -> None:
        """Leave it to the next drawing to show that."""

    def end(self) -> None:
        """Leave the rows as they are, and give the terminal back."""
        super().end()
        if self._capture:
            for line in self._capture.lines(last=True):
                self.say(line)
            self._live.refresh()
            self._live.stop()
            self._gpus.end()
            self._capture.end()
            self._capture = None

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for fixed in (True, True, False):  # only the last column gives way on a narrow terminal
            table.add_column(no_wrap=fixed)
        rows, height = list(self.board.shown()), self._console.height
        while len(rows) > max(1, height - BESIDE) and (over := _first_ended(rows)) is not None:
            del rows[over]
        cut = 2 * len(rows) + BESIDE > height  # there is no room for a second line of each
        for row, text in rows:
            mark, style = self._mark(row)
            said = Text(text, style, no_wrap=cut, overflow="ellipsis" if cut else "fold")
            table.add_row(Text(mark, style), Text(row.name, style), said)
        now = self.board.clock() - self.board.began
        beside = f"{lasting(now)}   {self._gpus.text}".rstrip()
        table.add_row("", Text("time", "dim"), Text(beside, "dim"))
        if self._capture and self._capture.unfinished:
            said = Text(plain(self._capture.unfinished), "dim", no_wrap=True, overflow="ellipsis")
            table.add_row("", "", said)
        return table

    def _mark(self, row: Row) -> tuple[str, str]:
        if row.failed:
            return "✗", "red"
        if row.ended is not None:
            return "✓", "green"
        if row.running:
            return SPINNER[int(self.board.clock() / self.TICK_SECONDS) % len(SPINNER)], "bold"
        return "·", "dim"


def _first_ended(rows: list[tuple[Row, str]]) -> int | None:
    return next((i for i, (row, _) in enumerate(rows) if row.ended is not None), None)
