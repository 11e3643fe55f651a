"""`continue_from`: which run another goes on from, and whether it may."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spark_trainer.config import ConfigError, Run
from spark_trainer.data.files import canonical_json
from spark_trainer.runs import folder
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun

LONGER = {"num_epochs", "max_steps"}  # what may differ


def find(name: str, run: Run, run_id: Callable[[str], str], key: str) -> RunFolder:
    """Find the run that another goes on from.

    A name may mean several; once the run has begun, it is the one that it began from.

    Args:
        name: of the run that goes on.
        run: its settings.
        run_id: returns its id, were it to go on from the run whose folder has a name.
        key: where the settings stand in the configuration.

    Raises:
        ConfigError: no run, or several, answer to `continue_from`.
    """
    wanted, here = run.continue_from or "", Path(run.output_dir)
    if (given := RunFolder(Path(wanted))).exists():
        return given
    known = folder.below(here)
    found = [one for one in known if wanted in (one.name, *one.name.rsplit("-", 1))]
    begun = [one for one in found if RunFolder(here / f"{name}-{run_id(one.name)}").exists()]
    if len(begun or found) != 1:
        listed = ", ".join(one.name for one in found or known) or "a run; there is none yet"
        raise ConfigError(
            f"{key}.continue_from: {wanted!r} is {'several runs' if found else 'no run'} in "
            f"{here}; expected {'one of: ' if found or known else ''}{listed}"
        )
    return (begun or found)[0]


def check(base: RunFolder, run: Run, origin: dict[str, str], key: str) -> None:
    """Check that a run may go on from another.

    Args:
        base: the folder of the other.
        run: the settings of the one.
        origin: what stands for its data and for the weights that it would start from.
        key: where the settings stand in the configuration.

    Raises:
        ConfigError: something differs that decides results, or there is nothing to go on from.
    """
    key = f"{key}.continue_from: {base.name}"
    try:
        launched = LaunchedRun.read(base)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{key}: its {base.run_file.name} can't be used: {error}") from None
    before = launched.settings.results() | launched.origin
    if wrong := _differences(before, run.results() | origin):
        raise ConfigError(f"{key}: expected the same but {', '.join(sorted(LONGER))}; {wrong}")
    saved = base.saved_checkpoints()
    if not saved:
        raise ConfigError(f"{key}: it has no checkpoint")
    step = folder.step_of(saved[-1])
    if run.max_steps and run.max_steps <= step:
        raise ConfigError(
            f"{key}: it is at update {step}; expected max_steps above that (got {run.max_steps})"
        )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Name what two runs don't have in common."""
    old, new = _flat(before), _flat(now)
    return ", ".join(
        f"{key}: {_shown(old.get(key))} there, {_shown(new.get(key))} here"
        for key in sorted({*old, *new} - LONGER)
        if old.get(key) != new.get(key)
    )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _shown(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
