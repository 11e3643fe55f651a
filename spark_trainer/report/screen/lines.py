"""A build as lines of plain text, for files and pipes."""

import time

from spark_trainer.report.screen.board import Row
from spark_trainer.report.screen.current import Screen

EVERY_SECONDS = 30.0


class Lines(Screen):
    """A line for each step that ends, and every half minute one for each at work."""

    _last = 0.0

    def draw(self) -> None:
        """Print where the steps at work are, from time to time."""
        now = time.monotonic()
        self._last = self._last or now
        if now - self._last >= EVERY_SECONDS:
            self._last = now
            for row, text in self.board.shown():
                if row.running:
                    self.say(f"{row.name}: {text}")

    def ended(self, row: Row) -> None:
        """Print what a step has done."""
        self.say(f"{row.name}: {self.board.said(row)}")
