"""How a run spreads a model over its processes: one class for each strategy.

    DDP         every process holds everything; several exchange gradients
    DeepSpeed   ZeRO-1 shards the optimizer, ZeRO-2 gradients too, ZeRO-3 weights too
    FSDP        PyTorch's FSDP2: all three

Where weights are sharded, a forward pass gathers them layer by layer, so every process must make
as many passes as the others, in training as in evaluation: one that has no batch left repeats one
and throws away what came of it. What generates answers of its own lengths can't: it does so in
`Strategy.gathered`, with all weights.

Light on purpose, because the Snakefile reads `deepspeed_config`: each class is imported only where
a run asks for it.
"""

from typing import TYPE_CHECKING

from spark_trainer.config import Run

if TYPE_CHECKING:
    from spark_trainer.train.strategies.base import Strategy


def of(run: Run) -> "type[Strategy]":
    """Return the strategy that a run asks for."""
    if run.fsdp:
        from spark_trainer.train.strategies.fsdp import FSDP

        return FSDP
    if run.use_deepspeed:
        from spark_trainer.train.strategies.deepspeed import DeepSpeed

        return DeepSpeed
    from spark_trainer.train.strategies.ddp import DDP

    return DDP
