"""A build as a panel on a terminal: a row for each step, drawn anew as it goes on."""

import io
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spark_trainer.report.screen.board import Row, lasting
from spark_trainer.report.screen.capture import Capture
from spark_trainer.report.screen.current import Screen
from spark_trainer.system.gpu import driver
from spark_trainer.system.log import plain

GPU_SECONDS = 3.0
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
        self._gpus, self._asked = "", 0.0
        capture = Capture()
        super().__init__(stats, folder)
        if not self.board.rows:
            capture.end()
            return
        stream = io.TextIOWrapper(
            io.FileIO(capture.terminal, "w", closefd=True),
            encoding="utf-8",
            errors="replace",
            write_through=True,
        )
        console = Console(file=stream, force_terminal=True)
        self._live = Live(console=console, auto_refresh=False, get_renderable=self._table)
        self._live.start()
        console.show_cursor(True)  # a killed process leaves it as it is
        self._capture = capture  # last: from now on the other thread draws

    def say(self, line: str) -> None:
        """Print lines above the rows, if there are any."""
        if not self._capture:
            super().say(line)
            return
        with self._lock:
            for one in line.splitlines():
                self._live.console.print(Text(plain(one)), highlight=False, soft_wrap=True)

    def draw(self) -> None:
        """Draw the rows."""
        if not self._capture:
            return
        for line in self._capture.lines():
            self.say(line)
        self._look_at_gpus()
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
            self._capture.end()
            self._capture = None

    def _look_at_gpus(self) -> None:
        """Ask how busy the GPUs are, where jobs have been given some."""
        if time.monotonic() - self._asked < GPU_SECONDS:
            return
        self._asked = time.monotonic()
        self._gpus = "   ".join(
            f"GPU {one.index}: {one.utilisation} %, {one.used_mib} of {one.memory_mib} MiB"
            for one in driver.devices()
        )

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for _ in range(3):
            table.add_column(no_wrap=True, overflow="ellipsis")
        for row, text in self.board.shown():
            mark, style = self._mark(row)
            table.add_row(Text(mark, style), Text(row.name, style), Text(text, style))
        now = self.board.clock() - self.board.began
        table.add_row("", Text("time", "dim"), Text(f"{lasting(now)}   {self._gpus}", "dim"))
        if self._capture and self._capture.unfinished:
            table.add_row("", "", Text(plain(self._capture.unfinished), "dim"))
        return table

    def _mark(self, row: Row) -> tuple[str, str]:
        if row.failed:
            return "✗", "red"
        if row.ended is not None:
            return "✓", "green"
        if row.running:
            return SPINNER[int(self.board.clock() / self.TICK_SECONDS) % len(SPINNER)], "bold"
        return "·", "dim"
