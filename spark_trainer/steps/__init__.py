"""The steps of the data graph: one module each, and the fingerprint that names its results.

A step module holds

    VERSION     raised when the same input and settings give another result
    UPSTREAM    steps whose results it reads
    identity    (settings, cache folder) -> what else decides the result, such as a model's digest
    files       (layout, video, record) -> the files that a finished record promises
    produce     (videos, context) -> one (video, facts) after the other

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

STEPS = ("frames", "audio", "transcript", "caption")  # in pipeline order
FINGERPRINT_DIGITS = 16

Facts = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What a step works with besides its videos."""

    layout: Layout
    settings: Any
    workers: int


class Step(Protocol):
    """What a step module offers; the module docstring says what each name means."""

    VERSION: int
    UPSTREAM: tuple[str, ...]

    def identity(self, settings: Any, cache: Path) -> Any: ...
    def files(self, layout: Layout, video: Video, record: Facts) -> list[Path]: ...
    def produce(self, videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]: ...


def load(name: str) -> Step:
    """The step module called `name`."""
    return cast(Step, importlib.import_module(f"{__name__}.{name}"))


def section(config: Config, name: str) -> Section:
    """The configuration section of a step."""
    return cast(Section, getattr(config, name))


def settings(config: Config, name: str) -> dict[str, Any]:
    """What a job needs to know; the manifest has no section, it reads the steps switched on."""
    if name == "manifest":
        return {"steps": enabled(config)}
    return section(config, name).model_dump(mode="json")


def enabled(config: Config) -> tuple[str, ...]:
    """The steps that the configuration switches on, in pipeline order."""
    return tuple(name for name in STEPS if section(config, name).enabled)  # type: ignore[attr-defined]


def fingerprint(config: Config, name: str) -> str:
    """Digest of everything but the video that decides a step's result."""
    step = load(name)
    cache = Layout(Path(config.output_dir)).state / "models.json"
    value = {
        "step": name,
        "version": step.VERSION,
        "settings": section(config, name).results(),
        "identity": step.identity(section(config, name), cache),
        "upstream": [fingerprint(config, upstream) for upstream in step.UPSTREAM],
    }
    return digest(value)[:FINGERPRINT_DIGITS]


def fingerprints(config: Config) -> dict[str, str]:
    """Fingerprint of each step, and of `manifest`, which reads those that are switched on."""
    from spark_trainer.steps import manifest

    found = {name: fingerprint(config, name) for name in STEPS}
    read = {name: found[name] for name in enabled(config)}
    value = {"step": "manifest", "version": manifest.VERSION, "upstream": read}
    return found | {"manifest": digest(value)[:FINGERPRINT_DIGITS]}
