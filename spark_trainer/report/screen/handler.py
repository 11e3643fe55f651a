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

from spark_trainer.report.screen import shown
from spark_trainer.report.screen.lines import Lines
from spark_trainer.report.screen.panel import Panel
from spark_trainer.report.screen.shown import Shown

SCREEN_VARIABLE = "SPARK_TRAINER_SCREEN"
IDLE = "Nothing to be done"  # how Snakemake begins to say so; it has no event for it


class LogHandler(LogHandlerBase):
    """Shows a build, or leaves that to Snakemake where the user asks for its text."""

    def __post_init__(self) -> None:
        asked = self.common_settings
        theirs = asked.dryrun or asked.quiet or asked.verbose or asked.printshellcmds
        self._ours = not (theirs or asked.debug_dag or os.environ.get(SCREEN_VARIABLE) == "snakemake")
        self._shown: Shown | None = None

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
        if event is LogEvent.RUN_INFO and values.get("stats"):
            self._begin(values["stats"])
        elif self._shown and event is LogEvent.JOB_INFO:
            self._shown.start(values["jobid"], values["rule_name"])
        elif self._shown and event is LogEvent.JOB_FINISHED:
            self._shown.finish(values["job_id"])
        elif self._shown and event is LogEvent.JOB_ERROR:
            self._shown.fail(values["jobid"], [str(path) for path in values.get("log") or ()])
        elif record.getMessage().startswith(IDLE):
            shown.idle()
        elif record.levelno >= logging.WARNING and event is not LogEvent.JOB_ERROR:
            shown.say(self.format(record))

    def _begin(self, stats: dict[str, int]) -> None:
        screen = Panel if sys.stderr.isatty() else Lines
        self._shown = shown.begin(screen(stats, Path(".snakemake")))

    def close(self) -> None:
        """End what is shown."""
        shown.end()
        super().close()
