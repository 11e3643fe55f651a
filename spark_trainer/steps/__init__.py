"""The steps of the data graph: one module each, and the fingerprint that names its results.

A step has one name, but for `caption`: each captioner is a step of its own, `caption/<backend>`.
A step module holds

    VERSION     raised when the same input and settings give another result
    UPSTREAM    steps whose results it reads; `caption` stands for every captioner
    SETTINGS    the section of the configuration that it is given
    wanted      settings -> the device of its model: `cuda`, `auto` or `cpu`
    identity    (settings, cache folder) -> what else decides the result, such as a model's digest
    files       (layout, video, record) -> the files that a finished record promises
    produce     (videos, context) -> one (video, facts) after the other; `unread` among the facts
                says that a file of an earlier step can't be decoded, and is not recorded

and nothing heavy at module level: the Snakefile reads the constants.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from spark_trainer.config import Config, Section
from spark_trainer.data.files import digest
from spark_trainer.data.layout import Layout, Video
from spark_trainer.steps.device import Wanted, asked

STEPS = ("frames", "audio", "transcript", "caption", "select", "pose")  # in pipeline order
FINGERPRINT_DIGITS = 16

Facts = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What a step works with besides its videos."""

    layout: Layout
    settings: Any
    workers: int
    gpus: int = 0  # that Snakemake granted


class Step(Protocol):
    """What a step module offers; the module docstring says what each name means."""

    VERSION: int
    UPSTREAM: tuple[str, ...]
    SETTINGS: type[Section]

    def wanted(self, settings: Any) -> Wanted: ...
    def identity(self, settings: Any, cache: Path) -> Any: ...
    def files(self, layout: Layout, video: Video, record: Facts) -> list[Path]: ...
    def produce(self, videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]: ...


def load(name: str) -> Step:
    """The step module of a step."""
    return cast(Step, importlib.import_module(f"{__name__}.{kind(name)}"))


def kind(name: str) -> str:
    """What kind of step: `caption` for every captioner, else the name itself."""
    return name.partition("/")[0]


def names(config: Config) -> tuple[str, ...]:
    """Every step that a configuration describes, in pipeline order."""
    captioners = tuple(f"caption/{backend}" for backend in config.caption.names)
    return tuple(name for step in STEPS for name in (captioners if step == "caption" else (step,)))


def section(config: Config, name: str) -> Section:
    """The settings of a step."""
    if kind(name) == "caption":
        return next(
            settings
            for backend, settings in config.caption.resolved().items()
            if name == f"caption/{backend}"
        )
    if name == "select":
        chosen = config.select.captioners or config.caption.names
        return config.select.model_copy(update={"captioners": chosen})
    return cast(Section, getattr(config, name))


def settings(config: Config, name: str) -> dict[str, Any]:
    """What a job needs to know; the manifest has no section, it reads the steps switched on."""
    if name == "manifest":
        return {"steps": reported(config)}
    return section(config, name).model_dump(mode="json")


def enabled(config: Config) -> tuple[str, ...]:
    """The steps that the configuration switches on, in pipeline order."""

    def on(name: str) -> bool:
        switch = "caption" if name == "select" else kind(name)
        return bool(getattr(config, switch).enabled)

    return tuple(name for name in names(config) if on(name))


def reported(config: Config) -> tuple[str, ...]:
    """The steps whose records the manifest reads: of the captions, the selected ones."""
    return tuple(name for name in enabled(config) if kind(name) != "caption")


def upstream(config: Config, name: str) -> tuple[str, ...]:
    """The steps whose results a step reads."""
    if name == "manifest":
        return reported(config)
    read = load(name).UPSTREAM
    return tuple(other for other in names(config) if kind(other) in read)


def gpus(config: Config, name: str, local: bool) -> int:
    """GPUs that a job of a step asks Snakemake for; see `device.asked`."""
    chosen: Any = section(config, name)
    return asked(load(name).wanted(chosen), getattr(chosen, "gpu_fraction", 1.0), local)


def fingerprint(config: Config, name: str) -> str:
    """Digest of everything but the video that decides a step's result."""
    step = load(name)
    cache = Layout(Path(config.output_dir)).model_digests
    value = {
        "step": name,
        "version": step.VERSION,
        "settings": section(config, name).results(),
        "identity": step.identity(section(config, name), cache),
        "upstream": [fingerprint(config, other) for other in upstream(config, name)],
    }
    return digest(value)[:FINGERPRINT_DIGITS]


def fingerprints(config: Config) -> dict[str, str]:
    """Fingerprint of each step, and of `manifest`, which reads those that are switched on."""
    from spark_trainer.steps import manifest

    found = {name: fingerprint(config, name) for name in names(config)}
    read = {name: found[name] for name in reported(config)}
    value = {"step": "manifest", "version": manifest.VERSION, "upstream": read}
    return found | {"manifest": digest(value)[:FINGERPRINT_DIGITS]}
