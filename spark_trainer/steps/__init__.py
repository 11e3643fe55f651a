"""The steps of the data graph: one module each, and the fingerprint that names its results.

A step has one name, but for `caption`: each captioner is a step of its own, `caption/<backend>`.
What a step is stands in `base.Step`, what it says of a video in `record.Record`.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from spark_trainer.config import STEP_SECTIONS, Config, Section
from spark_trainer.data.files import digest
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError
from spark_trainer.steps.base import Step, word
from spark_trainer.steps.device import asked

STEPS = tuple(STEP_SECTIONS)  # in pipeline order
FINGERPRINT_DIGITS = 16


def load(name: str) -> Step[Any, Any]:
    """Load a step.

    Raises:
        UserError: its module is not there, or holds no step.
    """
    module = f"{__name__}.{word(name)}"
    file = f"{module.replace('.', '/')}.py"
    try:
        step = getattr(importlib.import_module(module), "STEP", None)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(f"{file}: not there; expected the step of config.{word(name)}") from None
    if not (isinstance(step, type) and issubclass(step, Step)):
        raise UserError(f"{file}: expected STEP, the subclass of Step that is the step")
    if missing := [key for key in ("VERSION", "SETTINGS", "RECORD") if not hasattr(step, key)]:
        raise UserError(f"{file}: expected {missing[0]} in {step.__name__}")
    return step(name)


def names(config: Config) -> tuple[str, ...]:
    """Name every step that a configuration describes, in pipeline order."""
    return tuple(name for step in STEPS for name in load(step).names(config))


def section(config: Config, name: str) -> Section:
    """Return the settings of a step."""
    return cast(Section, load(name).settings(config))


def enabled(config: Config) -> tuple[str, ...]:
    """Name the steps that the configuration switches on, in pipeline order."""
    return tuple(name for name in names(config) if config.switched_on(word(name)))


def reported(config: Config) -> tuple[str, ...]:
    """Name the steps whose records the manifest reads."""
    return tuple(name for name in enabled(config) if load(name).REPORTED)


def upstream(config: Config, name: str) -> tuple[str, ...]:
    """Name the steps whose results a step reads."""
    read = load(name).upstream
    return tuple(other for other in names(config) if word(other) in read)


def gpus(config: Config, name: str, local: bool) -> int:
    """Count the GPUs that a job of a step asks Snakemake for; see `device.asked`."""
    chosen: Any = section(config, name)
    return asked(load(name).wanted(chosen), getattr(chosen, "gpu_fraction", 1.0), local)


def fingerprint(config: Config, name: str) -> str:
    """Digest everything but the video that decides a step's result."""
    step, chosen = load(name), section(config, name)
    cache = Layout(Path(config.output_dir)).model_digests
    before = [fingerprint(config, other) for other in upstream(config, name)]
    decisive = (chosen.results(), step.identity(chosen, cache), before)
    return digested(name, step.VERSION, *decisive)


def digested(
    name: str, version: int, settings: Mapping[str, Any], identity: Any, upstream: Sequence[str]
) -> str:
    """Return the fingerprint of a step's results.

    Args:
        name: the step.
        version: of the step.
        settings: those that its results depend on.
        identity: what else decides them, such as a model's digest.
        upstream: the fingerprints of what it reads.
    """
    value = {
        "step": name,
        "version": version,
        "settings": settings,
        "identity": identity,
        "upstream": upstream,
    }
    return digest(value)[:FINGERPRINT_DIGITS]


def fingerprints(config: Config) -> dict[str, str]:
    """Return the fingerprint of each step."""
    return {name: fingerprint(config, name) for name in names(config)}
