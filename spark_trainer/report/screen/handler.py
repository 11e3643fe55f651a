"""Snakemake's messages, turned into what a user wants to see of a build; a plugin for its logger.

It is registered by `console.prepare_snakemake` and named in profiles/default, so `--logger` takes
another one.
"""

import logging
import os
import sys
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from spark_trainer.report import console
from spark_trainer.report.screen import current
from spark_trainer.report.screen.current import Screen
from spark_trainer.report.screen.lines import Lines
from spark_trainer.report.screen.panel import Panel

SCREEN_VARIABLE, OFF = "SPARK_TRAINER_SCREEN", "off"
# What Snakemake says beside a JOB_ERROR and the last line, which name the job and the reason.
SAID_BETTER = (
    "CalledProcessError in file",
    "Exiting because a job execution failed.",
    "WorkflowError:\nAt least one job did not complete successfully.",
)
IDLE = "Nothing to be done"  # how Snakemake begins to say so; it has no event for it


class LogHandler(LogHandlerBase):
    """Shows a build, or leaves that to Snakemake where the user asks for its text."""

    def __post_init__(self) -> None:
        asked = self.common_settings
        theirs = asked.dryrun or asked.quiet or asked.verbose or asked.printshellcmds
        theirs = theirs or asked.debug_dag or os.environ.get(SCREEN_VARIABLE) == OFF
        self._ours = not theirs
        self._shown: Screen | None = None
        if self._ours:
            current.expect()

    @property
    def writes_to_stream(self) -> bool:
        """Tell Snakemake whether to leave the terminal to this."""
        return self._ours

    @property
    def writes_to_file(self) -> bool:
        """Tell that Snakemake's own log stays."""
        return False

    @property
    def has_filter(self) -> bool:
        """Tell that Snakemake's filter is wanted."""
        return False

    @property
    def has_formatter(self) -> bool:
        """Tell that Snakemake's texts are wanted, of errors."""
        return False

    @property
    def needs_rulegraph(self) -> bool:
        """Tell that no graph is wanted."""
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Show what a message changes."""
        if not self._ours:
            return
        event, values = getattr(record, "event", None), record.__dict__
        if current.says_all():
            current.say(self.format(record))
        elif event is LogEvent.RUN_INFO and values.get("stats"):
            self._begin(values["stats"])
        elif self._shown and event is LogEvent.JOB_INFO:
            self._shown.start(values["jobid"], values["rule_name"])
        elif self._shown and event is LogEvent.JOB_FINISHED:
            self._shown.finish(values["job_id"])
        elif self._shown and event is LogEvent.JOB_ERROR:
            if not console.stopped():  # else it was stopped with all others
                self._shown.fail(values["jobid"], [str(path) for path in values.get("log") or ()])
        elif record.getMessage().startswith(IDLE):
            current.idle()
        elif record.levelno >= logging.WARNING and event is not LogEvent.JOB_ERROR:
            text = self.format(record)
            if not any(words in text for words in SAID_BETTER) and not console.stopped():
                current.say(text)

    def _begin(self, stats: dict[str, int]) -> None:
        screen = Panel if _draws() else Lines
        try:
            self._shown = screen(stats, Path(".snakemake"))
        except OSError:
            self._shown = Lines(stats, Path(".snakemake"))
        current.begin(self._shown)

    def close(self) -> None:
        """End what is shown."""
        current.end()
        super().close()


def _draws() -> bool:
    """Tell whether a terminal is there that moves its cursor and knows the marks of a panel."""
    moves = os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
    return moves and sys.stderr.isatty() and sys.stderr.encoding.lower() in ("utf-8", "utf8")
