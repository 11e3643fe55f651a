"""The devices of a run, and the strategy that spreads the model over them."""

from typing import Annotated, Literal

from pydantic import Field

from spark_trainer.config.section import Runtime, Section


class Devices(Section):
    """GPUs, nodes, processes and strategy."""

    num_workers: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="Processes that read samples before training needs them, for each GPU. `auto` "
        "begins with 2, measures what samples and updates take, and goes on with as many as "
        "suffice, as far as there are CPUs.",
        json_schema_extra=Runtime,
    )
    gpus: int = Field(
        1,
        ge=0,
        description="GPUs to ask for, on each node.",
        json_schema_extra=Runtime,
    )
    nodes: int = Field(
        1, ge=1, description="Nodes; more than one need Slurm.", json_schema_extra=Runtime
    )
    min_gpus: int = Field(
        1,
        ge=0,
        description="Stop if fewer GPUs than this are granted, over all nodes.",
        json_schema_extra=Runtime,
    )
    check_memory: bool = Field(
        True,
        description="Stop before the weights are loaded if the run needs more memory than its GPUs "
        "have; false only says so.",
        json_schema_extra=Runtime,
    )
    allow_cpu: bool = Field(
        False,
        description="Train on the CPU if there is no GPU; the log says so.",
        json_schema_extra=Runtime,
    )
    cpu_processes: int = Field(
        1, ge=1, description="Training processes on the CPU.", json_schema_extra=Runtime
    )
    use_accelerate: bool = Field(
        True,
        description="Start a process for each GPU, as `accelerate launch` does; false trains in a "
        "single process.",
        json_schema_extra=Runtime,
    )
    use_deepspeed: bool = Field(
        False,
        description="Shard optimizer, gradients and weights over the processes by DeepSpeed's "
        "ZeRO; with bf16 and fp16 the model's weights are then held in 16 bits.",
    )
    deepspeed_config: str | None = Field(
        None,
        description="DeepSpeed's JSON file, such as config/deepspeed_zero2.json; batch sizes, "
        "clipping and precision come from this run.",
        json_schema_extra=Runtime,
    )
    fsdp: bool = Field(
        False, description="Shard them by PyTorch's FSDP2 instead; it needs no other file."
    )
