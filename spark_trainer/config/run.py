"""One training run."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from spark_trainer.config import fitting
from spark_trainer.config.dataset import Sampling, Split, Text
from spark_trainer.config.section import Fraction, PathText, Positive, ResultText, Runtime, Section


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), for `finetune: lora` and `qlora`."""

    rank: int = Field(16, ge=1, description="Rank of the two matrices.")
    alpha: Positive = Field(32.0, description="The update is scaled by alpha / rank.")
    dropout: Fraction = Field(0.0, description="Dropout in front of the adapters.")
    targets: tuple[str, ...] | None = Field(
        None, description="Names of the linear layers that get one; the family's own without."
    )


class Run(Section):
    """One training run."""

    model_name: str = Field(
        "Salesforce/blip-image-captioning-base", description="Hub id or local folder."
    )
    model_type: Literal["vision_language", "diffusion", "asr", "rft"] = Field(
        "vision_language",
        description="Kind of training; this version trains vision_language and diffusion.",
    )
    from_scratch: bool = Field(
        False, description="Start from random weights of the model's configuration."
    )
    manifest_path: PathText | None = Field(
        None, description="Train on this manifest; without it, on the one this workflow builds."
    )
    output_dir: ResultText = Field(
        "runs", description="Where run folders go.", json_schema_extra=Runtime
    )
    split: Split = Field(default_factory=Split)
    text: Text = Field(default_factory=Text)
    clip: Sampling = Field(default_factory=Sampling)

    finetune: Literal["full", "lora", "qlora"] = Field(
        "full",
        description="All trainable weights, or low-rank adapters, or those over a base in 4 bits.",
    )
    lora: Lora = Field(default_factory=Lora)
    freeze: tuple[str, ...] | None = Field(
        None,
        description="Parts of the model that stay as they are, such as `vision`; the family's "
        "own choice without, none with an empty list.",
    )
    save: Literal["merged", "adapter"] = Field(
        "merged",
        description="What `final/` of a LoRA run holds: the whole model, or the adapter alone.",
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto", description="Implementation of attention; `auto` is the model's own choice."
    )

    batch_size: int = Field(
        8, ge=1, description="Samples that a process takes at once.", json_schema_extra=Runtime
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="Batches per weight update.", json_schema_extra=Runtime
    )
    global_batch_size: int | None = Field(
        None,
        ge=1,
        description="Samples per weight update, whatever the number of GPUs; without it "
        "batch_size × gradient_accumulation_steps × gpus × nodes.",
    )
    packing: bool = Field(
        False,
        description="Put the samples of a batch one after the other instead of padding them; "
        "for the families whose language model is a decoder.",
    )
    bucketing: bool = Field(True, description="Batch samples of similar length.")
    max_length: int = Field(
        8192,
        ge=16,
        description="Longest sample in tokens, images included; a longer text is cut and counted.",
    )

    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"] = Field(
        "adamw", description="AdamW; the last three are bitsandbytes', the paged ones need a GPU."
    )
    learning_rate: Positive = Field(5e-5, description="Peak learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay of weight matrices.")
    warmup_steps: int = Field(0, ge=0, description="Updates from 0 to the peak learning rate.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Learning rate after the warm-up."
    )
    max_grad_norm: Positive = Field(1.0, description="Gradients are clipped to this norm.")
    num_epochs: int = Field(3, ge=1, description="Passes over the training videos.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many updates instead.")
    continue_from: str | None = Field(
        None,
        description="Go on from the newest checkpoint of another run, instead of from the start: "
        "its name, its seal, both, or its folder. All that decides results must be the same but "
        "num_epochs and max_steps.",
        json_schema_extra=Runtime,  # what it goes on from is sealed by the order
    )
    max_skipped: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Stop when a larger share of samples can't be used.",
        json_schema_extra=Runtime,
    )
    max_left_out: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Stop when a larger share of videos lacks what `text` asks for.",
        json_schema_extra=Runtime,
    )
    ema_decay: Fraction | None = Field(
        None, description="Evaluate and save an exponential moving average of the weights."
    )
    early_stopping: int | None = Field(
        None, ge=1, description="Stop after this many evaluations without a better held-out loss."
    )
    final: Literal["last", "best"] = Field(
        "last", description="Which weights become `final/`: the last, or those of the least loss."
    )
    seed: int = Field(0, description="Seed of weights, order and dropout.")
    mixed_precision: Literal["no", "fp16", "bf16"] = Field(
        "no", description="Arithmetic of the forward pass."
    )
    encode: Literal["ahead", "each_step"] = Field(
        "ahead",
        description="When diffusion's frozen encoders see a clip: once, in a step of the workflow, "
        "or whenever it is learnt from.",
        json_schema_extra=Runtime,
    )
    guidance_dropout: Fraction = Field(
        0.1,
        description="How often diffusion learns without its conditions, so that it can be guided.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Less memory for a second forward pass; the same gradients."
    )
    compile: bool = Field(False, description="Compile the model with torch.compile.")

    eval_steps: int = Field(
        100,
        ge=1,
        description="Updates between held-out losses and samples.",
        json_schema_extra=Runtime,
    )
    checkpoint_steps: int = Field(
        500, ge=1, description="Updates between checkpoints.", json_schema_extra=Runtime
    )
    keep_checkpoints: int = Field(
        2,
        ge=1,
        description="Newest checkpoints kept; the best one is kept beside them.",
        json_schema_extra=Runtime,
    )
    num_samples: int = Field(
        4,
        ge=0,
        description="Held-out clips captioned, or made by diffusion, at each evaluation.",
        json_schema_extra=Runtime,
    )
    num_sampling_steps: int = Field(
        25, ge=1, description="Steps of denoising for such a clip.", json_schema_extra=Runtime
    )
    max_new_tokens: int = Field(
        40, ge=1, description="Longest generated text in tokens.", json_schema_extra=Runtime
    )
    wandb_project: str | None = Field(
        None,
        description="Send metrics to this Weights & Biases project too.",
        json_schema_extra=Runtime,
    )
    peak_tflops: Positive | None = Field(
        None,
        description="Peak of one device, for MFU; known for common GPUs.",
        json_schema_extra=Runtime,
    )

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

    @property
    def samples_per_update(self) -> int:
        """Samples of one weight update over all processes."""
        asked = self.batch_size * self.gradient_accumulation_steps
        return self.global_batch_size or asked * max(1, self.gpus) * self.nodes

    @property
    def sharded(self) -> bool:
        """Whether no process holds everything."""
        return self.use_deepspeed or self.fsdp

    @property
    def encoded_ahead(self) -> bool:
        """Whether the `encode` step comes before this run."""
        return self.model_type == "diffusion" and self.encode == "ahead"

    @property
    def variants(self) -> int | None:
        """How many clips chance makes of a video; None: another in each epoch."""
        return self.clip.variants or (1 if self.encoded_ahead else None)

    @property
    def holds_out(self) -> bool:
        """Whether some videos are kept for the held-out loss."""
        return self.split.validation > 0

    def results(self) -> dict[str, Any]:
        """As for every section, without what this run never reads.

        The batch sizes only decide the samples of an update, and when clips are encoded only how
        many of them there are. How often is evaluated counts only where the held-out loss decides
        something: what is trained is the same otherwise.

        How a run is shared out (`use_deepspeed`, `fsdp`) counts, because it decides in which
        precision weights are held; DeepSpeed's file does not: precision, batch sizes and clipping
        in it are the run's, and what else it says changes memory and speed.
        """
        values = super().results() | {"global_batch_size": self.samples_per_update}
        values["clip"] = values["clip"] | {"variants": self.variants}
        if self.final == "best" or self.early_stopping:
            values["eval_steps"] = self.eval_steps
        for key in self._unread():
            section, _, name = key.rpartition(".")
            (values[section] if section else values).pop(name)
        return values

    def _unread(self) -> list[str]:
        """Keys whose value plays no part in this run."""
        diffusion = self.model_type == "diffusion"
        parts = {
            "max_length": diffusion,
            "guidance_dropout": not diffusion,
            "clip.reference": not diffusion,
            "clip.replace": not diffusion,
            "split.seed": not (self.split.validation or self.split.test),
            "num_epochs": self.max_steps is not None,
            "lora": self.finetune == "full",
            "save": self.finetune == "full",
            "freeze": self.finetune != "full",
        }
        return [key for key, unread in parts.items() if unread]

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _unquoted_no(cls, value: Any) -> Any:
        """YAML reads an unquoted `no` as false."""
        return "no" if value is False else value

    @model_validator(mode="after")
    def _fits_together(self) -> "Run":
        fitting.check(self)
        return self
