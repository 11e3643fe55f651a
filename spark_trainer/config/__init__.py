"""The configuration: one pydantic section per step, in the order of the pipeline.

Nothing heavy is imported here: every rule, job and command reads this package first.
"""

import math
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import Field, model_validator

from spark_trainer.config import pipeline, trained
from spark_trainer.config.audio import Audio
from spark_trainer.config.caption import Caption, Captioning
from spark_trainer.config.dataset import Sampling, Split, Text
from spark_trainer.config.exports import Export, Name
from spark_trainer.config.frames import Frames
from spark_trainer.config.index import Index
from spark_trainer.config.labels import GIVEN, Labels
from spark_trainer.config.model import Lora
from spark_trainer.config.pose import Pose
from spark_trainer.config.reading import validated
from spark_trainer.config.rft import Rft
from spark_trainer.config.run import Run
from spark_trainer.config.section import ConfigError, PathTexts, ResultText, Section, StepSection
from spark_trainer.config.select import Select
from spark_trainer.config.train import Train
from spark_trainer.config.transcript import TRAINED, Transcript

__all__ = [
    "STEP_SECTIONS",
    "Audio",
    "Caption",
    "Captioning",
    "Config",
    "ConfigError",
    "Export",
    "Frames",
    "Index",
    "Labels",
    "Lora",
    "Pose",
    "Rft",
    "Run",
    "Sampling",
    "Section",
    "Select",
    "Split",
    "StepSection",
    "Text",
    "Train",
    "Transcript",
    "check_steps",
    "load",
    "mapping",
    "read",
    "shard_bits",
]


class Config(Section):
    """Everything a user can set."""

    flat_keys: ClassVar[dict[str, str]] = {
        "frame_rate": "frames",
        "whisper_model": "transcript",
        "captioner_backend": "caption",
    }

    video_dir: PathTexts = Field(
        "videos", description="Folder or file, or a list of them, to search for videos."
    )
    output_dir: ResultText = Field("data/processed", description="Folder for the videos' results.")
    corrections_dir: ResultText | None = Field(
        None,
        description="Folder for what is corrected by hand; without it `corrections` in output_dir. "
        "It is yours, and has to be there: no build writes into it.",
    )
    deterministic_layout: bool = Field(
        True,
        description="Name a video's folder by its content's hash; false names it after the source "
        "file.",
    )
    index: Index = Field(default_factory=Index)
    labels: Labels = Field(default_factory=Labels)
    # The steps, in pipeline order: a field whose section is a `StepSection` makes its name one.
    frames: Frames = Field(default_factory=Frames)
    audio: Audio = Field(default_factory=Audio)
    transcript: Transcript = Field(default_factory=Transcript)
    caption: Caption = Field(default_factory=Caption)
    select: Select = Field(default_factory=Select)
    pose: Pose = Field(default_factory=Pose)
    train: Train | None = Field(None, description="Without it there is nothing to train.")
    exports: dict[Name, Export] = Field(
        default_factory=dict,
        description="Data sets for other tools, by name; `snakemake export` makes them.",
    )

    @model_validator(mode="before")
    @classmethod
    def _move_flat_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for key, section in cls.flat_keys.items():
            if key not in data:
                continue
            value, inner = data.pop(key), data.get(section, {})
            if not isinstance(inner, dict):
                continue  # refused as a section, with its own message
            if key in inner and inner[key] != value:
                raise ConfigError(
                    f"{key}: {value!r} here, but {inner[key]!r} in {section}.{key}; "
                    "expected one of the two"
                )
            data[section] = inner | {key: value}
        return data

    @model_validator(mode="after")
    def _needs(self) -> "Config":
        for step in filter(self.switched_on, STEP_SECTIONS):
            for other in STEP_SECTIONS[step].UPSTREAM:
                if not self.switched_on(other):
                    raise ConfigError(
                        f"{step}.enabled: expected {other}.enabled to be true as well"
                    )
        if unknown := [name for name in self.select.captioners if name not in self.caption.names]:
            raise ConfigError(
                f"select.captioners: {unknown[0]} is not in caption.captioner_backend"
            )
        if not (self.frames.enabled or self.audio.enabled):
            raise ConfigError("frames.enabled, audio.enabled: expected at least one to be true")
        trained.check(self.transcript, self.runs)
        return self

    def transcribed_by(self, final: Path) -> "Config":
        """Return the configuration with the place of a run's model for its name.

        Args:
            final: folder of the model, whether it is there yet or not.
        """
        place = final / trained.CT2 if self.transcript.model_backend == "faster-whisper" else final
        model = {"whisper_model": f"{TRAINED}{place}"}
        return self.model_copy(update={"transcript": self.transcript.model_copy(update=model)})

    @property
    def video_dirs(self) -> tuple[Path, ...]:
        """Return the folders to search, in the given order."""
        folders = (self.video_dir,) if isinstance(self.video_dir, str) else self.video_dir
        return tuple(Path(folder) for folder in folders)

    @property
    def corrections(self) -> Path:
        """Return the folder of what is corrected by hand."""
        return Path(self.corrections_dir or Path(self.output_dir) / "corrections")

    @property
    def labelled(self) -> dict[str, tuple[str, ...]]:
        """Return kind of labels -> where they are, of those that anything takes."""
        taken = {
            "captions": self.caption.enabled and GIVEN in self.caption.names,
            "transcripts": self.transcript.enabled and self.transcript.given,
        }
        places = {kind: self.labels.places(kind) for kind in Labels.KINDS if taken.get(kind, True)}
        return {kind: where for kind, where in places.items() if where}

    def switched_on(self, step: str) -> bool:
        """Tell whether a step is switched on."""
        switch = STEP_SECTIONS[step].SWITCH or step
        return bool(getattr(self, switch).enabled)

    @property
    def runs(self) -> dict[str, Run]:
        """Return the training runs by name; none without a `train` section."""
        return self.train.resolved() if self.train else {}


STEP_SECTIONS: dict[str, type[StepSection]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, StepSection)
}


def check_steps() -> None:
    """Look whether what the steps' sections declare fits together; see `pipeline.check`."""
    pipeline.check(STEP_SECTIONS)


def load(data: dict[str, Any]) -> Config:
    """Validate a configuration that is already read.

    Raises:
        ConfigError: one line per wrong key, with its path and what was expected.
        UserError: what a step's section declares can't be.
    """
    check_steps()
    return validated(Config, data)


def read(path: Path) -> Config:
    """Read and validate a YAML file.

    Raises:
        ConfigError: the file is missing, is no YAML mapping, or holds a wrong key.
    """
    data = mapping(path)
    try:
        return load(data)
    except ConfigError as error:
        raise ConfigError(f"{path}:\n{error}") from None


class _EachKeyOnce(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Check the keys, then construct as upstream does."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    problem = f"the key {key.value!r} stands twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file, whatever its keys.

    Raises:
        ConfigError: the file is missing, or is no YAML mapping.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_EachKeyOnce)  # noqa: S506
    except IsADirectoryError:
        raise ConfigError(f"{path}: expected a YAML file, not a folder") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected text in UTF-8") from None
    except yaml.YAMLError as error:
        text = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise ConfigError(f"{path}: expected YAML ({text})") from None
    if not isinstance(data or {}, dict):
        raise ConfigError(f"{path}: expected a mapping of keys")
    return data or {}


def shard_bits(num_videos: int, shard_size: int) -> int:
    """Return how many leading bits name a shard, so that it holds about `shard_size` videos."""
    return max(0, math.ceil(math.log2(max(1, num_videos) / shard_size)))
