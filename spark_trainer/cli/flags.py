"""Flags laid over a configuration: a flag wins, and a message names what it takes back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spark_trainer.config import Config, Run
from spark_trainer.config.model import MODEL_TYPES
from spark_trainer.errors import UserError

# Flags of `train`, each named after its key of the run.
OF_RUN = ("model_name", "model_type", "manifest_path", "batch_size", "learning_rate", "num_epochs")

# Flag of `train` -> keys of a run that would contradict it.
AGAINST = {
    "model_name": ("from_scratch", "continue_from", "base_run"),
    "model_type": ("packing", "attention"),
    "batch_size": ("global_batch_size", "gradient_accumulation_steps"),
    "num_epochs": ("max_steps",),
}
FOR_RANDOM_WEIGHTS = ("learning_rate", "warmup_steps")  # they don't suit trained weights
# Settings that were made for a model, which one of another kind can't take.
FOR_A_KIND = ("asr", "clip", "freeze", "split", "text", "learning_rate", "warmup_steps")

# A switch of `preprocess` that sets another: section and state -> section and state.
WITH = {
    ("transcript", True): ("audio", True),
    ("caption", True): ("frames", True),
    ("audio", False): ("transcript", False),
    ("frames", False): ("caption", False),
}
SWITCHES = {
    "extract_frames": "frames",
    "extract_audio": "audio",
    "transcribe": "transcript",
    "generate_captions": "caption",
}
ABOUT = {"frame_rate": "frames", "whisper_model": "transcript", "captioner_backend": "caption"}


def over_config(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay `over` over `base`; a flat key of `base` gives way to the same key in a section."""
    merged = dict(base)
    for key, value in over.items():
        for inner in value if isinstance(value, dict) else ():
            if Config.flat_keys.get(inner) == key:
                merged.pop(inner, None)
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = over_config(old, value) if both else value  # type: ignore[arg-type]
    return merged


def over_run(
    run: Run, given: Mapping[str, Any], key: str, gpus: int
) -> tuple[dict[str, Any], list[str]]:
    """Lay the flags of `train` over a run.

    Args:
        run: the run of the configuration.
        given: the flags, each by its key of the run.
        key: path of the run in the configuration, for messages.
        gpus: number of GPUs here; a batch size counts for each of them.

    Returns:
        The keys of the resulting run, and a line for each that a flag took back.
    """
    values = run.model_dump(exclude_unset=True)
    said = []

    def take_back(name: str, flag: str) -> None:
        default = Run.model_fields[name].get_default(call_default_factory=True)
        if name not in given and values.get(name, default) != default:
            shown = f"--{flag.replace('_', '-')}"
            value = values.pop(name)
            what = f"{key}.{name}: {value}" if not isinstance(value, dict) else f"{key}.{name}"
            said.append(f"{what} is taken back by {shown}")

    for flag, value in given.items():
        if flag in ("model_name", "model_type") and _same(value, getattr(run, flag)):
            if flag == "model_name" and run.from_scratch:
                said.append(f"{key}.from_scratch: true stays, --model-name names the same model")
            continue
        if flag == "model_type" and MODEL_TYPES.get(value, run.kind) != run.kind:
            for name in FOR_A_KIND:
                take_back(name, flag)
        if flag == "model_name" and run.from_scratch:
            for name in FOR_RANDOM_WEIGHTS:
                take_back(name, flag)
        if flag == "batch_size" and run.model_type == "rft":
            continue  # it counts answers in memory, and an update counts prompts
        for name in AGAINST.get(flag, ()):
            take_back(name, flag)
    here = max(1, gpus)
    if "batch_size" in given and "global_batch_size" not in values and run.gpus > here:
        said.append(
            f"{key}.gpus: {run.gpus} becomes {here}, which are here: --batch-size is each's"
        )
        values["gpus"] = here
    values.update(given)
    return values, said


def _same(a: str, b: str) -> bool:
    """Tell whether two names are one, or are one folder spelt in two ways."""
    return a == b or (Path(a).exists() and Path(a).resolve() == Path(b).resolve())


def switches(config: Config, given: Mapping[str, Any]) -> tuple[dict[str, bool], list[str]]:
    """Return the steps that the flags of `preprocess` turn on or off.

    A switch takes along what its step can't be without; any other flag turns its step on.

    Args:
        config: the configuration without the flags.
        given: the flags that were given.

    Returns:
        Section -> whether it is enabled, and a line for each that differs from the configuration
        without having a switch of its own.

    Raises:
        UserError: a flag is about a step that a switch turns off.
    """
    found = {SWITCHES[flag]: value for flag, value in given.items() if flag in SWITCHES}
    said = []

    def turn(section: str, state: bool, shown: str) -> None:
        if section not in found and getattr(config, section).enabled != state:
            found[section] = state
            said.append(f"{section}.enabled: {str(not state).lower()} is taken back by {shown}")
        if other := WITH.get((section, state)):
            turn(*other, shown)

    for flag, value in given.items():
        shown = flag.replace("_", "-")
        if flag in SWITCHES:
            turn(SWITCHES[flag], value, f"--{shown}" if value else f"--no-{shown}")
        elif section := ABOUT.get(flag):
            if found.get(section) is False:
                raise UserError(f"--{shown}: {section} is switched off by another flag")
            turn(section, True, f"--{shown}")
    return found, said


def count(text: str) -> int:
    """Read a number of things of which there is at least one.

    Raises:
        ValueError: it is no whole number above 0.
    """
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def days(text: str) -> float:
    """Read a number of days.

    Raises:
        ValueError: it is no number, or below 0.
    """
    number = float(text)
    if not number >= 0:  # nor is NaN
        raise ValueError(text)
    return number


def path(text: str) -> Path:
    """Read the name of a file or folder.

    Raises:
        ValueError: it is empty, which would mean the folder that the command runs in.
    """
    if not text:
        raise ValueError(text)
    return Path(text)
