"""`continue_from`: which run another goes on from, and whether it may.

Light on purpose: the Snakefile reads this module, so that a wrong key costs nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spark_trainer.config import ConfigError, Run
from spark_trainer.data.files import canonical_json, read_json
from spark_trainer.train import checkpoints

LONGER = {"num_epochs", "max_steps"}  # what may differ


def find(name: str, run: Run, seal: Callable[[str], str], key: str) -> Path:
    """The folder of the run that another goes on from.

    A name may mean several; once the run has begun, it is the one that it began from.

    Args:
        name: of the run that goes on.
        run: its settings.
        seal: its seal, were it to go on from the run with such a folder.
        key: where the settings stand in the configuration.

    Raises:
        ConfigError: no run, or several, answer to `continue_from`.
    """
    wanted, folder = run.continue_from or "", Path(run.output_dir)
    if (Path(wanted) / "run.json").is_file():
        return Path(wanted)
    known = sorted(path.parent for path in folder.glob("*/run.json"))
    found = [one for one in known if wanted in (one.name, *one.name.rsplit("-", 1))]
    begun = [one for one in found if (folder / f"{name}-{seal(one.name)}" / "run.json").is_file()]
    if len(begun or found) != 1:
        listed = ", ".join(one.name for one in found or known) or "none"
        raise ConfigError(
            f"{key}.continue_from: {wanted!r} is {'several runs' if found else 'no run'} in "
            f"{folder}; expected one of: {listed}"
        )
    return (begun or found)[0]


def check(base: Path, run: Run, origin: dict[str, Any], key: str) -> None:
    """See that a run may go on from another.

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
        told = read_json(base / "run.json")
        before = Run(**told["settings"]).results() | told.get("origin", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{key}: its run.json can't be used: {error}") from None
    if wrong := _differences(before, run.results() | origin):
        raise ConfigError(f"{key}: expected the same but {', '.join(sorted(LONGER))}; {wrong}")
    saved = checkpoints.listed(base / "checkpoints")
    if not saved:
        raise ConfigError(f"{key}: it has no checkpoint")
    if run.max_steps and run.max_steps <= checkpoints.step_of(saved[-1]):
        raise ConfigError(
            f"{key}: it is at update {checkpoints.step_of(saved[-1])}; expected max_steps above "
            f"that (got {run.max_steps})"
        )


def begin(base: Path, folder: Path, seal: str, say: Callable[[str], object]) -> None:
    """Give a run that has no checkpoint yet those of the other to go on from.

    Raises:
        ConfigError: none of them is whole.
    """
    target, theirs = folder / "checkpoints", read_json(base / "run.json")["seal"]
    if checkpoints.listed(target):
        return
    for saved in reversed(checkpoints.listed(base / "checkpoints")):
        if wrong := checkpoints.fault(saved, theirs):
            say(f"{saved} is broken and left out: {wrong}")
            continue
        best = int(read_json(saved / checkpoints.STEP)["progress"].get("best_step", 0))
        kept = checkpoints.path(saved.parent, best)
        if kept != saved and kept.exists() and not checkpoints.fault(kept, theirs):
            checkpoints.adopt(kept, target, seal)
        checkpoints.adopt(saved, target, seal)
        say(f"going on from {saved}")
        return
    raise ConfigError(f"train.continue_from: no checkpoint in {base} is whole")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What two runs don't have in common, in words."""
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
