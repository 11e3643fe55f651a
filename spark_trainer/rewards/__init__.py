"""What scores the answers of a model that learns from rewards: one module for each reward."""

import importlib
import pkgutil

from spark_trainer.config.rewards import FUNCTION
from spark_trainer.rewards.base import Given, Reward
from spark_trainer.rewards.combined import Rewards
from spark_trainer.rewards.function import Function


def known() -> dict[str, type[Reward]]:
    """Return every reward of this folder by its name."""
    found: dict[str, type[Reward]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for one in vars(module).values():
            own = getattr(one, "__module__", None) == module.__name__
            if own and isinstance(one, type) and issubclass(one, Reward) and "name" in vars(one):
                found[one.name] = one
    return found


def of(given: Given) -> Rewards:
    """Return the rewards that the settings ask for.

    Raises:
        UserError: a file can't be used as a reward, or a reward can't be used with this data.
        MachineError: a file can't be read.
    """
    names, here = given.rft.reward_funcs, known()
    weights = given.rft.reward_weights or (1.0,) * len(names)
    made = [
        Function(name, given, weight) if FUNCTION.fullmatch(name) else here[name](given, weight)
        for name, weight in zip(names, weights, strict=True)
    ]
    return Rewards(made, given.rft.gate_format)
