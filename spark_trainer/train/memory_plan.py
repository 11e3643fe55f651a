"""What a run takes of the memory of each GPU and of its machine, known before weights are loaded.

The pass is computed tensor by tensor (`memory_pass`); what stands beside it follows from the
number of weights that learn, n, on N processes. In bytes of each process, w those of a number in
`mixed_precision`:

               weights          gradients     optimizer       in a pass
    DDP        all              4 n           8 n             buckets, 4 n, where N > 1
    ZeRO-1     all, in w        w n           (4 + 8) n / N   two buckets
    ZeRO-2     all, in w        w n / N       (4 + 8) n / N   two buckets
    ZeRO-3     all, in w, / N   w n / N       (4 + 8) n / N   a bucket, and what is gathered
    FSDP2      all / N          4 n / N       8 n / N         two layers and what is no layer

ZeRO keeps float32 weights beside the model's own (Rajbhandari et al. 2020, arXiv:1910.02054,
section 3) and fills buckets of `reduce_bucket_size` numbers; ZeRO-3 gathers up to
`stage3_max_live_parameters` ahead. Not in it: what CUDA takes for itself, workspaces of kernels,
rounding by the allocator, and evaluations, which bring frozen encoders to the GPU.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_trainer.config import Run
from spark_trainer.train.memory_pass import Data, Pass, measured
from spark_trainer.train.strategies import deepspeed_config
from spark_trainer.train.topology import Topology

GIB = 2**30
BUCKET = LIVE = 500_000_000  # numbers: DeepSpeed's defaults, of which `LIVE` is doubled
BLOCK, SMALL = 256, 4096  # bitsandbytes: numbers that share a scale, and those that stay in float32


@dataclass(frozen=True)
class Plan:
    """Bytes that a run takes: on each GPU, and of the machine.

    Attributes:
        weights: of the network, and of encoders beside it.
        gradients: of the weights that learn.
        optimizer: its state.
        average: the moving average of the weights.
        activations: what the worst moment of a pass takes beyond the others. In an update of one
            batch, gradients come while activations go: they are in it as far as they are there.
        peak: the most of all moments.
        host: what all processes of a machine take of its memory, data workers aside.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    peak: int
    host: int


@dataclass(frozen=True)
class _Share:
    """Bytes of a process that a strategy decides; `passing` is what it needs in a pass."""

    weights: int
    gradients: int
    optimizer: int
    passing: int = 0
    host: int = 0


def passes(run: Run, world_size: int) -> int:
    """Return how many batches of a process make an update."""
    return -(-run.samples_per_update // world_size // run.batch_size)


def of(run: Run, topology: Topology, data: Data | None) -> Plan:
    """Compute what a run takes.

    Args:
        run: the settings.
        topology: its nodes and processes.
        data: its samples; without them grey ones stand in.

    Raises:
        ValueError: the checkpoint is of no known family, or can't do what is asked.
        OSError: there is no such checkpoint.
    """
    accumulates = passes(run, topology.world_size) > 1
    return planned(run, topology, measured(run, data, accumulates, topology.device), accumulates)


def planned(run: Run, topology: Topology, found: Pass, accumulates: bool) -> Plan:
    """Return the plan of a run whose pass is known."""
    share = _share(run, topology.world_size, found)
    average = 4 * found.num_learnt if run.ema_decay else 0
    moving = 8 * max(found.shapes) if run.ema_decay else 0  # two copies of one weight
    held = share.weights + share.optimizer + average
    passing = found.over + share.passing + (share.gradients if accumulates else 0)
    loading = found.frozen + found.learnt
    return Plan(
        weights=share.weights,
        gradients=share.gradients,
        optimizer=share.optimizer,
        average=average,
        activations=found.over + share.passing,
        peak=held + max(passing, share.gradients + moving),
        host=topology.processes * max(loading, share.host + average),
    )


def _share(run: Run, world_size: int, found: Pass) -> _Share:
    if run.use_deepspeed:
        return _zero(run, world_size, found)
    number = found.num_learnt
    if run.fsdp:
        gathered, widest = 2 * found.layers[0] + found.layers[-1], found.layers[0]
        narrow = 2 if run.mixed_precision != "no" else 4
        return _Share(
            weights=(found.frozen + 4 * number) // world_size,
            gradients=4 * number // world_size,
            optimizer=8 * number // world_size,
            passing=gathered + widest * 4 // narrow,
        )
    state = sum(_optimizer_bytes(run.optimizer, size) for size in found.shapes)
    paged = run.optimizer.startswith("paged")
    return _Share(
        weights=found.frozen + found.learnt,
        gradients=4 * number,
        optimizer=0 if paged else state,
        passing=4 * number if world_size > 1 else 0,
        host=state if paged else 0,
    )


def _optimizer_bytes(name: str, size: int) -> int:
    """Return what AdamW's two averages take for a parameter of so many numbers."""
    if name.endswith("8bit") and size >= SMALL:
        return 2 * (size + 4 * -(-size // BLOCK))
    return 8 * size


def _zero(run: Run, world_size: int, found: Pass) -> _Share:
    """Return what DeepSpeed's ZeRO takes, with what its file moves to the machine's memory."""
    values = deepspeed_config.read(run)["zero_optimization"]
    stage, number = values["stage"], found.num_learnt
    wide = 4 if run.mixed_precision == "no" else 2
    whole = found.frozen + found.learnt
    weights = whole // world_size if stage == 3 else whole
    gradients = wide * number // (world_size if stage > 1 else 1)
    optimizer = (4 + 8) * number // world_size
    buckets = wide * _number(values, "reduce_bucket_size", BUCKET)
    if stage == 3:
        live = _number(values, "stage3_max_live_parameters", 2 * LIVE)
        passing = buckets + min(wide * live, whole)
    else:
        passing = buckets * (2 if values.get("overlap_comm") else 1)
    host = 0
    if _offloaded(values, "offload_param") and stage == 3:
        host, weights = host + weights, 0
    if _offloaded(values, "offload_optimizer"):
        host, optimizer, gradients = host + optimizer + 4 * number // world_size, 0, 0
    return _Share(weights, gradients, optimizer, passing, host)


def _offloaded(values: dict[str, Any], key: str) -> bool:
    return str((values.get(key) or {}).get("device", "none")) != "none"


def _number(values: dict[str, Any], key: str, default: int) -> int:
    given = values.get(key, deepspeed_config.AUTO)
    return default if given == deepspeed_config.AUTO else int(given)


def alternatives(run: Run) -> list[tuple[str, Run]]:
    """List what to change of a run so that it takes less, what changes the results least first.

    Each is named by the keys of `train` that differ.
    """
    fewer = {"batch_size": 1, "global_batch_size": run.samples_per_update}
    steps: list[dict[str, Any]] = [
        fewer if run.batch_size > 1 else {},
        {"gradient_checkpointing": True},
        {"mixed_precision": "bf16"},
        {"optimizer": "adamw_8bit"} if not run.sharded else {},
        {"finetune": "lora"} if run.finetune == "full" else {},
        {"finetune": "qlora"} if not run.sharded else {},
    ]
    found: list[tuple[str, Run]] = []
    changed: dict[str, Any] = {}
    for step in steps:
        new = {key: value for key, value in step.items() if getattr(run, key) != value}
        if new:
            changed |= new
            words = ", ".join(f"{key}: {_yaml(value)}" for key, value in changed.items())
            found.append((words, run.model_copy(update=changed)))
    return found


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def by_strategy(run: Run, topology: Topology, data: Data | None) -> dict[str, Plan]:
    """Return what a run takes as it is configured, and by each strategy that could spread it.

    Args:
        run: the settings.
        topology: its nodes and processes.
        data: its samples; without them grey ones stand in.
    """
    accumulates = passes(run, topology.world_size) > 1
    known: dict[bool, Pass] = {}
    plans = {}
    for name, one in {"as configured": run, **_strategies(run)}.items():
        if one.sharded not in known:
            known[one.sharded] = measured(one, data, accumulates, topology.device)
        plans[name] = planned(one, topology, known[one.sharded], accumulates)
    return plans


def _strategies(run: Run) -> dict[str, Run]:
    """Return the run by each strategy that takes its settings; those of ZeRO by our files."""
    plain = run.model_copy(update={"use_deepspeed": False, "deepspeed_config": None, "fsdp": False})
    found = {"DDP": plain}
    if run.finetune == "qlora" or run.ema_decay or run.compile or run.optimizer != "adamw":
        return found
    for stage in (2, 3):
        file = f"config/deepspeed_zero{stage}.json"
        update = {"use_deepspeed": True, "deepspeed_config": file}
        if Path(file).exists():
            found[file] = plain.model_copy(update=update)
    if run.mixed_precision != "fp16":
        found["FSDP2"] = plain.model_copy(update={"fsdp": True})
    return found


def table(rows: dict[str, Plan]) -> str:
    """Return a line of GiB for each plan, by its name."""
    columns = ("weights", "gradients", "optimizer", "average", "activations", "peak", "host")
    wide = max(map(len, rows), default=0)
    lines = [" " * wide + "".join(f"{column:>13}" for column in columns)]
    for name, plan in rows.items():
        values = (getattr(plan, column) / GIB for column in columns)
        lines.append(f"{name:<{wide}}" + "".join(f"{value:>13.2f}" for value in values))
    return "\n".join(lines)
