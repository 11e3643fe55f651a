"""Which devices a run asks for, and how the model is spread over them."""

from pydantic import Field

from spark_trainer.config.section import Runtime, Section


class Devices(Section):
    """GPUs, nodes, processes and strategy."""

    num_workers: int = Field(
        2, ge=0, description="Processes that decode ahead.", json_schema_extra=Runtime
    )
    gpus: int = Field(
        1,
        ge=0,
        description="GPUs to ask Snakemake for, on each node.",
        json_schema_extra=Runtime,
    )
    nodes: int = Field(
        1, ge=1, description="Nodes; more than one on Slurm.", json_schema_extra=Runtime
    )
    min_gpus: int = Field(
        1,
        ge=0,
        description="Stop when fewer GPUs are granted on all nodes.",
        json_schema_extra=Runtime,
    )
    allow_cpu: bool = Field(
        False,
        description="Train on the CPU where there is no GPU, and say so.",
        json_schema_extra=Runtime,
    )
    cpu_processes: int = Field(
        1, ge=1, description="Processes on a CPU without GPUs.", json_schema_extra=Runtime
    )
    use_accelerate: bool = Field(
        True,
        description="Start a process for each GPU, as `accelerate launch` does; false runs one "
        "bare process.",
        json_schema_extra=Runtime,
    )
    use_deepspeed: bool = Field(
        False,
        description="Share optimizer, gradients and weights out to the processes by DeepSpeed's "
        "ZeRO; in bf16 and fp16 the weights themselves are held in 16 bits then.",
    )
    deepspeed_config: str | None = Field(
        None,
        description="DeepSpeed's JSON file, such as config/deepspeed_zero2.json; batch sizes, "
        "clipping and precision are this run's.",
        json_schema_extra=Runtime,
    )
    fsdp: bool = Field(
        False, description="Share them out by PyTorch's FSDP2 instead; needs no other file."
    )
