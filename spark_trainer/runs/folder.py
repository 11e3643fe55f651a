"""The folder of a training run; the only module that spells the names in it.

run.json                the run as it was launched: what its processes read
config.yaml             its settings, for people
manifest.jsonl          what it is trained on
rejected.jsonl          the videos that the manifest leaves out, with reasons
code.diff               what the code differed by from its commit, where it did
lineage.json            videos, what captioned and transcribed them, code, packages, hardware
nodes/<number>.json     host and devices of each node, where there are several
metrics.jsonl           a line for each update and each evaluation
tensorboard/            the same as events
trackers/               what other trackers write, where a run has any
samples/step_<update>…  what the model made of held-out samples
samples/learnt_<update>.json  answers that it learnt from
checkpoints/step_<update>/  what the run goes on from
train.log               the log of its processes
final/                  the trained model, its card, and how whole files are heard
trained.json            the summary, written last
.holder                 who trains in the folder
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spark_trainer.data.files import digest
from spark_trainer.data.layout import RUN_CONFIG, RUN_FILE, RUN_LINEAGE
from spark_trainer.errors import UserError
from spark_trainer.metrics.score import WHOLE_FILES


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run folder, wherever it lies."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """`<run>-<run id>`, as the folder is called."""
        return self.path.name

    @property
    def run_file(self) -> Path:
        return self.path / RUN_FILE

    @property
    def config(self) -> Path:
        return self.path / RUN_CONFIG

    @property
    def lineage(self) -> Path:
        return self.path / RUN_LINEAGE

    @property
    def code_diff(self) -> Path:
        return self.path / "code.diff"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.jsonl"

    @property
    def rejected(self) -> Path:
        return self.path / "rejected.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "tensorboard"

    @property
    def trackers(self) -> Path:
        return self.path / "trackers"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def final(self) -> Path:
        return self.path / "final"

    @property
    def whole_files(self) -> Path:
        return self.final / WHOLE_FILES

    @property
    def summary(self) -> Path:
        return self.path / "trained.json"

    @property
    def holder(self) -> Path:
        return self.path / ".holder"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def node(self, number: int) -> Path:
        return self.path / "nodes" / f"{number}.json"

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint of an update."""
        return self.checkpoints / step_name(step)

    def saved_checkpoints(self) -> list[Path]:
        """List what is named as a checkpoint, oldest first, whole or not."""
        return sorted(self.checkpoints.glob(f"{STEP}{DIGITS * '[0-9]'}"))

    def sample(self, step: int) -> Path:
        """Return the list of the samples of an update; videos lie in the folder beside it."""
        return self.samples / f"{step_name(step)}.json"

    def sample_page(self, step: int) -> Path:
        """Return the page of the samples of an update, which not every method has."""
        return self.sample(step).with_suffix(".html")

    def learnt(self, step: int) -> Path:
        """Return the list of answers that an update learnt from, which not every method draws."""
        return self.samples / f"learnt_{step:0{DIGITS}d}.json"

    def sample_pages(self) -> list[Path]:
        """List what `sample_page` names and is there, oldest first."""
        return sorted(self.samples.glob(f"{STEP}*.html"))

    def sample_lists(self) -> list[Path]:
        """List what `sample` names and is there, oldest first."""
        return sorted(self.samples.glob(f"{STEP}{DIGITS * '[0-9]'}.json"))

    def shown(self, name: str) -> Path:
        """Return the file that a list of samples names.

        Raises:
            UserError: it would lie outside of `samples/`.
        """
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{self.samples}: expected a sample below it (got {name!r})")
        return self.samples / path

    def sample_folders(self) -> list[Path]:
        """List the folders of the files of samples, one for each update that has any."""
        named = self.samples.glob(f"{STEP}{DIGITS * '[0-9]'}")
        return sorted(path for path in named if path.is_dir())

    def learnt_lists(self) -> list[Path]:
        """List what `learnt` names and is there, oldest first."""
        return sorted(self.samples.glob("learnt_*.json"))

    def exists(self) -> bool:
        """Tell whether a run was launched here."""
        return self.run_file.is_file()


STEP, DIGITS = "step_", 8


def step_name(step: int) -> str:
    """Return what the things of one update are called."""
    return f"{STEP}{step:0{DIGITS}d}"


def step_of(checkpoint: Path) -> int:
    """Return the update that a checkpoint's name says."""
    return int(checkpoint.name.removeprefix(STEP))


def state(folders: Iterable[RunFolder]) -> str:
    """Return what stands for how far runs are: another text as soon as one went on."""
    kinds = ((run.run_file, run.metrics, run.summary, run.samples) for run in folders)
    found = [(str(path), path.stat()) for paths in kinds for path in paths if path.exists()]
    return digest([[name, said.st_size, said.st_mtime_ns] for name, said in found])


def below(folder: Path) -> list[RunFolder]:
    """List the run folders directly below a folder, by name."""
    return [RunFolder(path.parent) for path in sorted(folder.glob(f"*/{RUN_FILE}"))]


def begun(folder: Path) -> list[RunFolder]:
    """List, like `below`, also those whose launch ended before `run.json` was written."""
    held = (path.parent for path in folder.glob(f"*/{RunFolder(folder).holder.name}"))
    return sorted({*below(folder), *map(RunFolder, held)}, key=str)
