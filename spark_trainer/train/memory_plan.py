"""What a run takes of the memory of each GPU and of its machine, known before weights are loaded.

The pass is computed tensor by tensor (`memory_pass`); what stands beside it follows from the
number of weights that learn, n, on N processes. In bytes of each process, w those of a number in
`mixed_precision`:

               weights          gradients     optimizer       in a pass
    one        all              4 n           8 n
    DDP        all              4 n, kept     8 n
    ZeRO-1     all, in w        w n           (4 + 8) n / N   two buckets
    ZeRO-2     all, in w        w n / N       (4 + 8) n / N   two buckets
    ZeRO-3     all, in w, / N   w n / N, kept (4 + 8) n / N   a bucket, and what is gathered
    FSDP2      all / N          4 n / N       8 n / N         two layers and what is no layer

Gradients that are kept are there from the start of an update, others come as the activations go.
ZeRO keeps float32 weights beside the model's own (Rajbhandari et al. 2020, arXiv:1910.02054,
section 3), fills buckets of `reduce_bucket_size` numbers, and has its gradients in float32 as it
steps; ZeRO-3 gathers up to `stage3_max_live_parameters` ahead. Before that DeepSpeed puts the whole
model, in w, on each GPU. Where answers are generated for an update, ZeRO-3 and FSDP2 gather it, in
w. Not in it: what CUDA takes for itself, workspaces of kernels, rounding by the allocator, and
evaluations, which bring frozen encoders to the GPU.
"""

from dataclasses import dataclass
from typing import Any

from spark_trainer.config import Run
from spark_trainer.train.memory_pass import Data, Pass, measured
from spark_trainer.train.strategies import deepspeed_config
from spark_trainer.train.topology import Topology

GIB = 2**30
BUCKET = LIVE = 500_000_000  # numbers: DeepSpeed's defaults, of which `LIVE` is doubled
SUB_GROUP = 1_000_000_000  # numbers that ZeRO-3 steps at once
BLOCK, SMALL = 256, 4096  # bitsandbytes: numbers that share a scale, and those that stay in float32
COLUMNS = ("weights", "gradients", "optimizer", "average", "activations", "peak", "host")
SHIPPED = tuple(f"config/deepspeed_zero{name}.json" for name in ("2", "3_on_gpu", "3"))
# Settings of which a pass knows nothing, but for `sharded`.
APART: dict[str, Any] = {
    "optimizer": "adamw",
    "ema_decay": None,
    "use_deepspeed": False,
    "deepspeed_config": None,
    "global_batch_size": None,
    "gradient_accumulation_steps": 1,
}


@dataclass(frozen=True)
class Plan:
    """Bytes that a run takes: on each GPU, and of the machine.

    Attributes:
        weights: of the network, of encoders beside it, and of the network at the start.
        gradients: of the weights that learn.
        optimizer: its state.
        average: the moving average of the weights.
        activations: what the worst moment of a pass takes beyond the others.
        peak: the most of all moments. It may be less than the sum of the others, where gradients
            come while activations go, and more, where answers are generated.
        host: what all processes of a machine take of its memory, data workers aside.
        gathered: of the peak, the weights that are gathered to generate answers.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    peak: int
    host: int
    gathered: int


@dataclass(frozen=True)
class _Share:
    """Bytes of a process that a strategy decides.

    Attributes:
        weights: of the network.
        learnt: of those of them that learn.
        optimizer: its state.
        gradient: of each number that learns.
        keeps_gradients: whether all are there from the start of an update.
        passing: what it needs in a pass.
        stepping: what it needs as weights change.
        starting: all that it needs before the first update.
        gathered: what it needs to generate with all weights.
        host: of the machine's memory.
    """

    weights: int
    learnt: int
    optimizer: int
    gradient: float
    keeps_gradients: bool = False
    passing: int = 0
    stepping: int = 0
    starting: int = 0
    gathered: int = 0
    host: int = 0


class Planner:
    """Plans runs over the same samples; a pass that several of them make is computed once."""

    def __init__(self, topology: Topology, data: Data | None) -> None:
        """Plan for processes and samples; without `data` grey samples stand in."""
        self.topology, self.data = topology, data
        self._passes: dict[str, Pass] = {}

    def plan(self, run: Run) -> Plan:
        """Compute what a run takes.

        Raises:
            ValueError: the checkpoint is of no known family, or can't do what is asked.
            OSError: there is no such checkpoint.
        """
        run = self._shared(run)
        return planned(run, self.topology, self.measured(run))

    def measured(self, run: Run) -> Pass:
        """Compute a pass of a run; raises as `plan`."""
        run = self._shared(run)
        key = run.model_copy(update=APART | {"fsdp": run.sharded}).model_dump_json()
        if key not in self._passes:
            self._passes[key] = measured(run, self.data, self.topology.device)
        return self._passes[key]

    def _shared(self, run: Run) -> Run:
        """Return a run with the batch that a process takes of an update, where that is smaller."""
        samples = run.samples_per_update
        most = -(-samples // self.topology.world_size) * run.rows_per_sample
        return run.model_copy(
            update={"batch_size": min(run.batch_size, most), "global_batch_size": samples}
        )

    def by_strategy(self, run: Run) -> dict[str, Plan]:
        """Return what a run takes as it is configured, and by each strategy that could spread it.

        Those of ZeRO are by the files in `config/`, where they are; raises as `plan`.
        """
        others = _strategies(run, self.topology.world_size)
        runs = {"as configured": run} | {n: one for n, one in others.items() if one != run}
        return {name: self.plan(one) for name, one in runs.items()}


def planned(run: Run, topology: Topology, found: Pass) -> Plan:
    """Return the plan of a run whose pass is known."""
    share = _share(run, topology.world_size, found)
    rows = run.samples_per_update * run.rows_per_sample
    passes = -(-rows // topology.world_size // run.batch_size)
    average = 4 * found.num_learnt if run.ema_decay else 0
    moving = 8 * max(found.shapes) if run.ema_decay else 0  # two copies of one weight
    gradients = int(share.gradient * found.num_learnt)
    passing = found.most(share.gradient, share.keeps_gradients or passes > 1)
    start = share.learnt if found.keeps_start else 0
    held = share.weights + start + found.beside + share.optimizer + average
    peak = held + max(passing + share.passing, gradients + max(share.stepping, moving))
    gathered = share.gathered if found.generating else 0
    kept = gradients if share.keeps_gradients else 0
    answering = held + kept + gathered + found.generating
    left = found.loaded - found.frozen - found.learnt - found.beside  # on the machine
    return Plan(
        weights=share.weights + start + found.beside,
        gradients=gradients,
        optimizer=share.optimizer,
        average=average,
        activations=found.most(0, False) + share.passing,
        peak=max(peak, answering, share.starting),
        host=topology.processes * max(found.loaded, left + share.host + average),
        gathered=gathered if answering > max(peak, share.starting) else 0,
    )


def _share(run: Run, world_size: int, found: Pass) -> _Share:
    if run.use_deepspeed:
        return _zero(run, world_size, found)
    if run.fsdp:
        return _fsdp(run, world_size, found)
    state = sum(_optimizer_bytes(run.optimizer, size) for size in found.shapes)
    paged = run.optimizer.startswith("paged")
    return _Share(
        weights=found.frozen + found.learnt,
        learnt=found.learnt,
        optimizer=0 if paged else state,
        gradient=4,
        keeps_gradients=world_size > 1,
        host=state if paged else 0,
    )


def _optimizer_bytes(name: str, size: int) -> int:
    """Return what AdamW's two averages take for a parameter of so many numbers."""
    if name.endswith("8bit") and size >= SMALL:
        return 2 * (size + 4 * -(-size // BLOCK))
    return 8 * size


def _fsdp(run: Run, world_size: int, found: Pass) -> _Share:
    """Return what FSDP2 takes: it gathers a layer ahead, and sums gradients in float32."""
    wide, number = _wide(run), found.num_learnt
    *layers, rest = found.layers
    gathered = 2 * max((layer.num_weights for layer in layers), default=0) + rest.num_weights
    summed = max(layer.num_learnt for layer in found.layers)
    return _Share(
        weights=(found.frozen + found.learnt) // world_size,
        learnt=found.learnt // world_size,
        optimizer=8 * number // world_size,
        gradient=4 / world_size,
        passing=wide * gathered + (wide + 4) * summed,
        gathered=wide * found.num_weights,
    )


def _zero(run: Run, world_size: int, found: Pass) -> _Share:
    """Return what DeepSpeed's ZeRO takes, with what its file moves to the machine's memory."""
    values = deepspeed_config.read(run)["zero_optimization"]
    stage, number, wide = values["stage"], found.num_learnt, _wide(run)
    whole, part = wide * found.num_weights, number // world_size
    weights, optimizer = whole // world_size if stage == 3 else whole, (4 + 8) * part
    gradient = wide / (world_size if stage > 1 else 1)
    passing = wide * _number(values, "reduce_bucket_size", BUCKET)
    if stage == 3:
        live = _number(values, "stage3_max_live_parameters", 2 * LIVE)
        passing += min(wide * live, whole)
    elif values.get("overlap_comm"):
        passing *= 2
    learnt, host = wide * (part if stage == 3 else number), 0
    device = _offloaded(values, "offload_param")
    if device and stage == 3:
        away = weights + (learnt if found.keeps_start else 0)
        host, weights, learnt = host + (away if device == "cpu" else 0), 0, 0
    if device := _offloaded(values, "offload_optimizer"):
        host += optimizer + 4 * part if device == "cpu" else 0
        optimizer, gradient = 0, 0
    stepping = 4 * min(part, SUB_GROUP if stage == 3 else part) if gradient else 0
    return _Share(
        weights=weights,
        learnt=learnt,
        optimizer=optimizer,
        gradient=gradient,
        keeps_gradients=stage == 3,
        passing=passing,
        stepping=stepping,
        starting=whole,
        gathered=whole if stage == 3 else 0,
        host=host,
    )


def _wide(run: Run) -> int:
    """Return the bytes of a number in a run's precision."""
    return 4 if run.mixed_precision == "no" else 2


def _offloaded(values: dict[str, Any], key: str) -> str | None:
    """Return where DeepSpeed moves something to, `cpu` or `nvme`; None where it stays."""
    device = str((values.get(key) or {}).get("device", "none"))
    return None if device == "none" else device


def _number(values: dict[str, Any], key: str, default: int) -> int:
    given = values.get(key, deepspeed_config.AUTO)
    return default if given == deepspeed_config.AUTO else int(given)


def _strategies(run: Run, world_size: int) -> dict[str, Run]:
    """Return the run by each strategy that takes its settings."""
    alone = {"use_deepspeed": False, "deepspeed_config": None, "fsdp": False}
    changes: dict[str, dict[str, Any]] = {"DDP" if world_size > 1 else "one process": {}}
    for file in SHIPPED:
        changes[file] = {"use_deepspeed": True, "deepspeed_config": file}
    changes["FSDP2"] = {"fsdp": True}
    made = {name: changed(run, alone | change) for name, change in changes.items()}
    return {name: one for name, one in made.items() if one}


def changed(run: Run, changes: dict[str, Any]) -> Run | None:
    """Return a run with other settings; None where they don't fit together."""
    try:
        return Run.model_validate(run.model_dump() | changes)
    except ValueError:
        return None


def table(rows: dict[str, Plan]) -> str:
    """Return a line of GiB for each plan, by its name."""
    wide = max(map(len, rows), default=0)
    lines = [" " * wide + "".join(f"{column:>13}" for column in COLUMNS)]
    for name, plan in rows.items():
        values = (getattr(plan, column) / GIB for column in COLUMNS)
        lines.append(f"{name:<{wide}}" + "".join(f"{value:>13.4g}" for value in values))
    return "\n".join(lines)
