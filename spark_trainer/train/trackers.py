"""Who else is told what a run tells: the trackers that Accelerate knows, by its own classes.

What they write lies in the run folder, unless the user's environment names a server. A tracker that
fails while a run trains costs it nothing, one that hangs some minutes: what it was not told is
counted and said, and `metrics.jsonl` has all of it.
"""

import contextlib
import io
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Run
from spark_trainer.data.files import write_text
from spark_trainer.errors import MachineError, UserError, of_machine
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.record import flat
from spark_trainer.system import log
from spark_trainer.system.aside import Aside

if TYPE_CHECKING:
    from PIL.Image import Image

PATIENCE = 3  # failures in a row, after which a tracker is told nothing more
LAST_WAIT_S = 600  # for what is still to be sent when a run ends
WAIT_S = 60.0  # for what is told while it trains; most take ms
# Name -> what Accelerate's class of that name needs; the full mlflow brings mlflow-skinny.
PACKAGES = {"mlflow": "mlflow-skinny", "trackio": "trackio", "wandb": "wandb"}


@dataclass(frozen=True)
class Shown:
    """What an update made of held-out samples.

    Attributes:
        columns: names of what is said of each.
        rows: what is said.
        listing: the list in `samples/`.
        sheet: pictures of all of them, where there are any.
        sheet_file: the same as a file, where it is kept.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    listing: Path
    sheet: "Image | None"
    sheet_file: Path | None


class Service(ABC):
    """What differs between trackers: how one begins or goes on, and what else than numbers it
    takes."""

    @abstractmethod
    def made(self, tracker: Any, folder: RunFolder, project: str) -> Any:
        """Return an instance of Accelerate's class, not started.

        Args:
            tracker: the class.
            folder: of the run.
            project: what the user calls the project.
        """

    def begun(self, tracker: Any, folder: RunFolder) -> None:
        """Keep what a resumed run needs to go on."""
        return

    def show(self, tracker: Any, step: int, shown: Shown) -> None:
        """Record samples of an update, where it takes texts or pictures."""
        return


class Wandb(Service):
    """Weights & Biases: an interrupted run has the same id; `WANDB_MODE=offline` sends nothing."""

    def made(self, tracker: Any, folder: RunFolder, project: str) -> Any:
        """See `Service`."""
        quiet = {"console": "off", "silent": True}
        ending = {"finish_timeout": LAST_WAIT_S, "finish_timeout_raises": True}
        same = {"name": folder.name, "id": folder.name, "resume": "allow"}
        return tracker(project, dir=str(folder.trackers), settings=quiet | ending, **same)

    def show(self, tracker: Any, step: int, shown: Shown) -> None:
        """See `Service`: a table, and the sheet."""
        if shown.rows:
            data = [list(row) for row in shown.rows]
            tracker.log_table("samples", columns=list(shown.columns), data=data, step=step)
        if shown.sheet:
            tracker.log_images({"sheet": [shown.sheet]}, step=step)


class Mlflow(Service):
    """MLflow, whose own id of the run is kept; without a server it writes files."""

    def made(self, tracker: Any, folder: RunFolder, project: str) -> Any:
        """See `Service`."""
        import mlflow

        if "MLFLOW_TRACKING_URI" not in os.environ:
            # Its database needs packages that mlflow-skinny lacks.
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
            mlflow.set_tracking_uri((folder.trackers / "mlruns").resolve().as_uri())
        kept = self._kept(folder)
        known = kept.read_text(encoding="utf-8").strip() if kept.is_file() else None
        return tracker(project, run_id=known, run_name=folder.name)

    def begun(self, tracker: Any, folder: RunFolder) -> None:
        """See `Service`."""
        write_text(self._kept(folder), tracker.tracker.info.run_id)

    def show(self, tracker: Any, step: int, shown: Shown) -> None:
        """See `Service`: the list and the sheet, as files of the run."""
        tracker.log_artifact(str(shown.listing), "samples")
        if shown.sheet_file:
            tracker.log_artifact(str(shown.sheet_file), f"samples/{shown.listing.stem}")

    @staticmethod
    def _kept(folder: RunFolder) -> Path:
        return folder.trackers / "mlflow.id"


class Trackio(Service):
    """Trackio, which takes numbers and settings."""

    def made(self, tracker: Any, folder: RunFolder, project: str) -> Any:
        """See `Service`."""
        # Read as the package is imported.
        os.environ.setdefault("TRACKIO_DIR", str((folder.trackers / "trackio").resolve()))
        return tracker(project, name=folder.name, resume="allow")


SERVICES: Mapping[str, Service] = {"mlflow": Mlflow(), "trackio": Trackio(), "wandb": Wandb()}


class Outside:
    """A tracker that a run does not depend on.

    Attributes:
        name: as in `train.trackers`.
        untold: how many times it could not be told something.
    """

    def __init__(self, name: str, tracker: Any = None, aside: Aside | None = None) -> None:
        """Take a tracker and where it was started; none where it could not be."""
        self.name, self.untold = name, 0
        self._tracker, self._aside = tracker, aside or Aside(name)
        self._in_a_row = 0 if tracker else PATIENCE

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the numbers of an update; those that are none are left out."""
        known = {name: value for name, value in values.items() if math.isfinite(value)}
        self._tell(lambda: self._tracker.log(known, step=step))

    def show(self, step: int, shown: Shown) -> None:
        """Tell what was made of held-out samples."""
        self._tell(lambda: SERVICES[self.name].show(self._tracker, step, shown))

    def close(self) -> None:
        """Send what is left, and say what was never told."""
        if self._in_a_row < PATIENCE:
            with _quietly():
                self._tell(self._tracker.finish, LAST_WAIT_S + WAIT_S)
        if self.untold:
            text = "train.trackers: %s could not be told %d things, which the run folder has"
            log.logger.warning(text, self.name, self.untold)

    def _tell(self, act: Callable[[], None], seconds: float | None = None) -> None:
        if self._in_a_row >= PATIENCE:
            self.untold += 1
            return
        try:
            self._aside.do(act, seconds or WAIT_S)
        except Exception as error:  # whatever a service raises
            self.untold += 1
            self._in_a_row += 1
            left = "; it is told nothing more" if self._in_a_row == PATIENCE else ""
            log.logger.warning("train.trackers: %s: %s%s", self.name, _said(error), left)
        else:
            self._in_a_row = 0


def begin(folder: RunFolder, run: Run, resumed_step: int) -> list[Outside]:
    """Start the trackers of a run, or let them go on.

    Args:
        folder: of the run.
        run: the settings, which are told first.
        resumed_step: the update from which the run goes on, -1 from none.

    Raises:
        UserError: one can't be started at the run's first start; a resumed run goes on without.
        MachineError: the same, by the machine's fault.
    """
    if run.trackers:
        folder.trackers.mkdir(exist_ok=True)
    return [_begun(name, folder, run, resumed_step) for name in dict.fromkeys(run.trackers)]


def _begun(name: str, folder: RunFolder, run: Run, resumed_step: int) -> Outside:
    aside, first = Aside(name), resumed_step < 0
    try:
        with _quietly():
            started = aside.do(lambda: _started(name, folder, run, first), LAST_WAIT_S)
        return Outside(name, started, aside)
    except Exception as error:  # whatever a service raises
        text = f"train.trackers: {name} can't be started: {_said(error)}"
        if not first:
            log.logger.warning("%s; the run goes on without", text)
            return Outside(name)
        raise (MachineError if of_machine(error) else UserError)(text) from error


def _started(name: str, folder: RunFolder, run: Run, first: bool) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    service = SERVICES[name]
    tracker = service.made(LOGGER_TYPE_TO_CLASS[name], folder, run.tracker_project)
    tracker.start()
    service.begun(tracker, folder)
    if first:
        tracker.store_init_configuration(settings(folder, run))
    return tracker


def settings(folder: RunFolder, run: Run) -> dict[str, Any]:
    """Return a run's settings as trackers take them: dotted keys, plain values."""
    plain = flat(run.model_dump(mode="json")) | {"run": folder.name}
    single = (bool, int, float, str)
    return {key: one if isinstance(one, single) else str(one) for key, one in plain.items()}


def _quietly() -> contextlib.AbstractContextManager[Any]:
    """Show nothing of what is greeted with on standard output."""
    return contextlib.redirect_stdout(io.StringIO())


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
