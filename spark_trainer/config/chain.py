"""`base_run`: runs that begin with the trained weights of another run of the configuration."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from spark_trainer.config.run import Run
from spark_trainer.config.section import ConfigError


def order(runs: Mapping[str, Run]) -> list[str]:
    """Return the runs' names, each behind that of the run whose weights it begins with.

    Raises:
        ConfigError: a run would begin with its own weights, or with those of a run that is none.
    """
    for name, run in runs.items():
        if run.base_run is not None and run.base_run not in runs:
            others = ", ".join(other for other in runs if other != name)
            raise ConfigError(
                f"{_key(name, runs)}: no run {run.base_run!r} is configured; expected "
                + (f"one of: {others}" if others else "none, as there is no other run")
            )
    before = {name: [run.base_run] if run.base_run else [] for name, run in runs.items()}
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        circle = error.args[1]  # each begins behind the one that follows it
        raise ConfigError(
            f"{_key(circle[0], runs)}: expected a run that begins without this one; "
            f"{' → '.join(reversed(circle))} is a circle"
        ) from None


def linked(runs: Mapping[str, Run], own: Mapping[str, Mapping[str, Any]]) -> dict[str, Run]:
    """Return runs of which each that has a base is of the base's model.

    `model_name` is then that of the first run of the chain: what a model is like is known before
    any of them is trained.

    Args:
        runs: by name.
        own: the keys that each was given for itself.

    Raises:
        ConfigError: as `order`; or a run can't begin with the weights of its base.
    """
    found = dict(runs)
    for name in order(runs):
        run = found[name]
        if run.base_run is None:
            continue
        base = found[run.base_run]
        _check(run, base, own.get(name, {}), _key(name, runs))
        found[name] = run.model_copy(update={"model_name": base.model_name})
    return found


def _check(run: Run, base: Run, own: Mapping[str, Any], key: str) -> None:
    """Refuse a base whose weights the run can't begin with.

    Raises:
        ConfigError: the message names the key.
    """
    if run.kind != base.kind:
        raise ConfigError(
            f"{key}: expected a run of a {run.kind} model; {run.base_run} is of a {base.kind} one"
        )
    if base.finetune != "full" and base.save == "adapter":
        raise ConfigError(f"{key}: expected a run with save: merged; {run.base_run} saves adapters")
    if own.get("model_name", base.model_name) != base.model_name:
        raise ConfigError(
            f"{key.removesuffix('base_run')}model_name: expected none with base_run, which gives "
            f"the weights (got {own['model_name']!r})"
        )


def _key(name: str, runs: Mapping[str, Run]) -> str:
    """Return where a run's `base_run` stands below `train`; without names there is one run."""
    return "base_run" if name == "default" and len(runs) == 1 else f"runs.{name}.base_run"
