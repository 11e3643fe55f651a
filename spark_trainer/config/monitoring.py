"""The settings of evaluations, checkpoints and metrics."""

from typing import Any, Literal

from pydantic import Field, model_validator

from spark_trainer.config.section import ConfigError, Positive, Runtime, Section

TrackerName = Literal["mlflow", "trackio", "wandb"]  # as Accelerate calls them
# Key of earlier versions -> those that are in its place.
RENAMED = {"wandb_project": "`trackers: [wandb]` with `tracker_project`"}


class Monitoring(Section):
    """Evaluations, samples and checkpoints."""

    eval_steps: int = Field(
        100,
        ge=1,
        description="Updates between evaluations.",
        json_schema_extra=Runtime,
    )
    max_eval_samples: int | None = Field(
        None,
        ge=1,
        description="Most held-out samples of an evaluation, evenly chosen; without it all.",
        json_schema_extra=Runtime,
    )
    checkpoint_steps: int = Field(
        500, ge=1, description="Updates between checkpoints.", json_schema_extra=Runtime
    )
    keep_checkpoints: int = Field(
        2,
        ge=1,
        description="Number of newest checkpoints to keep; the best one is kept too.",
        json_schema_extra=Runtime,
    )
    num_samples: int = Field(
        4,
        ge=0,
        description="Held-out samples for which each evaluation generates a text or a video.",
        json_schema_extra=Runtime,
    )
    num_sampling_steps: int = Field(
        25,
        ge=1,
        description="Denoising steps for each generated video.",
        json_schema_extra=Runtime,
    )
    max_new_tokens: int = Field(
        40, ge=1, description="Longest generated text in tokens.", json_schema_extra=Runtime
    )
    trackers: tuple[TrackerName, ...] = Field(
        (),
        description="Who gets metrics and samples beside TensorBoard, which always does.",
        json_schema_extra=Runtime,
    )
    tracker_project: str = Field(
        "spark-trainer",
        min_length=1,
        description="Project of the run there; MLflow calls it an experiment.",
        json_schema_extra=Runtime,
    )
    peak_tflops: Positive | None = Field(
        None,
        description="Peak speed of one device, for MFU; without it that of a known GPU.",
        json_schema_extra=Runtime,
    )

    @model_validator(mode="before")
    @classmethod
    def _names_what_replaced_a_key(cls, data: Any) -> Any:
        if isinstance(data, dict) and (old := sorted(RENAMED.keys() & data.keys())):
            raise ConfigError("\n".join(f"{key}: gone; expected {RENAMED[key]}" for key in old))
        return data
