"""The events of one run for TensorBoard, written by the thread that makes them.

TensorBoard's own writer has another thread, which prints a trace where a disk is full, and of which
the run hears an update later.
"""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from spark_trainer.data.files import naming

TORCH: Any = summary  # its functions have no types
VERSION = "brain.Event:2"  # of the format, as the first event of a file tells it


class Events:
    """A new file of events; those of earlier files that come after the resumed update are hidden.

    Args:
        folder: where TensorBoard looks.
        resumed_step: the update from which the run goes on, -1 from none.

    Raises:
        OSError: the disk takes no more, here and wherever something is written.
    """

    def __init__(self, folder: Path, resumed_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files in the order of their names.
        self._path = folder / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"
        self._file = open(self._path, "xb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._write(file_version=VERSION)
        self._write(step=resumed_step + 1, session_log=SessionLog(status=SessionLog.START))

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers of an update, each under its name."""
        told = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=told))

    def text(self, step: int, name: str, markdown: str) -> None:
        """Write a text of an update, as TensorBoard's page of texts shows it."""
        self._write(step=step, summary=TORCH.text(name, markdown))

    def settings(self, values: Mapping[str, Any], metrics: Iterable[str]) -> None:
        """Write what a run is compared by on TensorBoard's page of hyperparameters.

        Args:
            values: plain, by dotted key.
            metrics: names of the numbers that are compared.
        """
        experiment, begin, _ = TORCH.hparams(dict(values), dict.fromkeys(metrics, 0.0))
        self._write(step=0, summary=experiment)
        self._write(step=0, summary=begin)

    def picture(self, step: int, name: str, encoded: bytes, size: tuple[int, int]) -> None:
        """Write a PNG, JPEG or GIF of an update, of so many pixels across and down."""
        width, height = size
        image = Summary.Image(
            width=width, height=height, colorspace=3, encoded_image_string=encoded
        )
        told = Summary.Value(tag=name, image=image)
        self._write(step=step, summary=Summary(value=[told]))

    def close(self) -> None:
        """Close the file."""
        with naming(self._path):
            self._file.close()

    def _write(self, **told: Any) -> None:
        with naming(self._path):
            self._records.write(Event(wall_time=time.time(), **told).SerializeToString())
            self._file.flush()
