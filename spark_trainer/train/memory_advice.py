"""What to change of a run that doesn't fit into its GPUs."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from spark_trainer.config import Run
from spark_trainer.train import memory_plan
from spark_trainer.train.memory_plan import GIB, Planner

SMALLER_PX = 448  # side of the frames that are tried for families that take any size
ROOM = 64  # pixels: every family takes sides that this divides


def advice(run: Run, planner: Planner, memory: float) -> str:
    """Say which settings fit that are near a run's, those that keep its results first.

    Args:
        run: one that takes more.
        planner: plans it and others.
        memory: bytes of a GPU that may be taken.
    """
    saving, *others = _ways(run, planner.topology.world_size)
    fitting = [told for told in [_first(run, saving, planner, memory)] if told]
    if not fitting:
        fitting = [told for way in others if (told := _first(run, way, planner, memory))]
    if fitting:
        return "it would take " + ", or ".join(fitting)
    return (
        "no change was enough of batch_size, gradient_checkpointing, mixed_precision, optimizer, "
        "finetune, clip, fsdp and deepspeed_config; take a smaller model, or larger GPUs"
    )


def _ways(run: Run, world_size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield ways to take less, the gentlest first: each a list of changes that add up.

    The first way changes how a run's results are computed, the others also what is learnt, or where
    weights lie.
    """
    fewer = {"batch_size": 1, "global_batch_size": run.samples_per_update}
    gentle: list[dict[str, Any]] = [
        fewer if run.batch_size > 1 else {},
        {} if run.gradient_checkpointing else {"gradient_checkpointing": "attention"},
        {"gradient_checkpointing": True},
        {"mixed_precision": "bf16"} if run.mixed_precision == "no" else {},
    ]
    yield [*gentle, {"optimizer": "adamw_8bit"}]
    whole = {key: value for change in gentle for key, value in change.items()}
    zero = {"fsdp": False, "use_deepspeed": True, "deepspeed_config": memory_plan.SHIPPED[-1]}
    spread = {"use_deepspeed": False, "fsdp": True}
    yield [whole | (spread if world_size > 1 else {}), zero]
    yield [whole | {"finetune": "lora"}, {"finetune": "qlora"}]
    yield [whole | {"clip": change} for change in _smaller(run)]


def _smaller(run: Run) -> Iterator[dict[str, Any]]:
    """Yield changes of clips that halve what is seen of them."""
    most = run.clip.lengths[0]
    if most > 1:  # 4k + 1 where that is many: every family takes so many
        yield {"num_frames": (most // 2 - 1) // 4 * 4 + 1 if most > 9 else most // 2}
    if run.clip.sizes:
        yield {"sizes": [[_smaller_side(side) for side in size] for size in run.clip.sizes]}
    else:
        yield {"max_side_px": min(SMALLER_PX, (run.clip.max_side_px or 2 * SMALLER_PX) // 2)}


def _smaller_side(side: int) -> int:
    return max(ROOM, int(side / math.sqrt(2)) // ROOM * ROOM)


def _first(
    run: Run, changes: Iterable[dict[str, Any]], planner: Planner, memory: float
) -> str | None:
    """Return the first of changes, each on top of those before, by which a run fits."""
    own, kept = run.model_dump(mode="json"), dict[str, Any]()
    for change in changes:
        kept = _over(kept, {key: value for key, value in change.items() if own[key] != value})
        other = memory_plan.changed(run, _over(own, kept)) if kept else None
        peak = _peak(other, planner) if other else None
        if peak is not None and peak <= memory:
            words = yaml.safe_dump(kept, default_flow_style=True, sort_keys=False, width=1000)
            return f"{peak / GIB:.1f} with train: {words.strip()}"
    return None


def _over(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Lay changes over settings; of a section only the keys that are named."""
    laid = {
        key: values.get(key, {}) | value if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    return values | laid


def _peak(run: Run, planner: Planner) -> int | None:
    """Return what a run takes of a GPU; None where its family can't do what is asked."""
    try:
        return planner.plan(run).peak
    except (ValueError, OSError):
        return None
