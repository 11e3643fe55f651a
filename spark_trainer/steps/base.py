"""What every step of the data graph is: what it reads, what names its results, what it makes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from spark_trainer.config import STEP_SECTIONS, Config, Section
from spark_trainer.data import models
from spark_trainer.data.layout import Layout, Video
from spark_trainer.steps.device import Wanted
from spark_trainer.steps.record import Facts, Record

Settings = TypeVar("Settings", bound=Section)
Said = TypeVar("Said", bound=Record)


@dataclass(frozen=True)
class Checkpoint:
    """Weights that a step needs, and the key that names them.

    `unavailable` tells why they can't be had; None where they can. It may ask a server.
    """

    key: str
    name: str
    unavailable: Callable[[], str | None]


def at_hub(key: str, name: str, revision: str | None) -> Checkpoint:
    """Return a checkpoint that is a local folder, or a hub id."""
    return Checkpoint(key, name, partial(models.unavailable, name, revision))


def word(name: str) -> str:
    """Return the word that names a step's module and section: `caption` for every captioner."""
    return name.partition("/")[0]


@dataclass(frozen=True)
class Context(Generic[Settings]):
    """What a step works with besides its videos."""

    layout: Layout
    settings: Settings
    workers: int
    gpus: int = 0  # that Snakemake granted


class Step(ABC, Generic[Settings, Said]):
    """One step; its module holds one subclass, as `STEP`, and nothing heavy at its top.

    VERSION     raised when the same input and settings give another result
    SETTINGS    the settings that its jobs are given
    RECORD      what it says of a video
    REPORTED    whether the manifest reads its records
    UPHELD      whether its records keep a digest of their files, for steps that can't read them

    Which steps it reads, what switches it on, and the manifest's keys stand in its section.
    """

    VERSION: ClassVar[int]
    SETTINGS: type[Settings]
    RECORD: type[Said]
    REPORTED: ClassVar[bool] = True
    UPHELD: ClassVar[bool] = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.word = word(name)

    def names(self, config: Config) -> tuple[str, ...]:
        """Name the steps that a configuration makes of it: a captioner each, else itself."""
        return (self.name,)

    def settings(self, config: Config) -> Settings:
        """Return the settings that its jobs are given."""
        return cast(Settings, getattr(config, self.word))

    def wanted(self, settings: Settings) -> Wanted:
        """Tell the device that its model asks for."""
        return "cpu"

    def identity(self, settings: Settings, cache: Path) -> Any:
        """Return what else decides the result, such as a model's digest.

        Args:
            settings: the step's.
            cache: the file that keeps digests of models.
        """
        return None

    def packages(self, settings: Settings) -> tuple[str, Sequence[str]]:
        """Name the packages that its jobs import beside the core's, and the key that wants them."""
        return self.word, ()

    def checkpoints(self, settings: Settings) -> Iterator[Checkpoint]:
        """Yield the weights that its jobs load."""
        yield from ()

    @property
    def upstream(self) -> tuple[str, ...]:
        """Name the steps whose results it reads; `caption` stands for every captioner."""
        return STEP_SECTIONS[self.word].UPSTREAM

    @property
    def told(self) -> tuple[str, ...]:
        """Return the kinds of corrections and labels that it reads."""
        return STEP_SECTIONS[self.word].CORRECTED

    def reads(self, settings: Settings) -> tuple[str, ...]:
        """Name the steps whose records a job reads."""
        return self.upstream

    def skips(self, upstream: Sequence[Record], video: Video) -> str | None:
        """Tell why a video gets nothing from this step; None where it is due.

        Args:
            upstream: the video's records of the steps that this one reads, in their order.
            video: the video.
        """
        empty = [record for record in upstream if not record.ok]
        return empty[0].reason or empty[0].status.value if empty else None

    def path(self, layout: Layout, video: Video) -> Path:
        """Name the file of a video's record."""
        return layout.record(video, self.name)

    def files(self, layout: Layout, video: Video, record: Said) -> list[Path]:
        """Name the files that a record promises, beside itself."""
        return []

    @abstractmethod
    def produce(
        self, videos: list[Video], context: Context[Settings]
    ) -> Iterator[tuple[Video, Said]]:
        """Make the results, one video after the other.

        Raises:
            ConfigError: the settings can't be carried out.
            MachineError: the machine is in trouble.
        """

    def manifest_fields(self, video: Video, record: Said) -> Facts:
        """Return what the manifest's line says of a video.

        The keys are those of the section's `MANIFEST`, and the paths that stand beside `meta`.
        """
        return {}
