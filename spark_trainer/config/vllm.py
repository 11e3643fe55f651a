"""The settings of a vLLM server that draws the answers of reinforcement fine-tuning."""

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from spark_trainer.config.section import PathText, Positive, Runtime, Section

CorrectionMode = Literal[
    "token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "none"
]


class Vllm(Section):
    """A vLLM server that draws answers in the place of the training processes."""

    server_url: str | None = Field(
        None,
        description="Address of the server, up to `/v1`; its key is in OPENAI_API_KEY. Without it "
        "the training processes draw the answers.",
        json_schema_extra=Runtime,
    )
    server_timeout_s: Positive = Field(
        600.0,
        description="Longest wait for an answer, in seconds; so long a server may be away too.",
        json_schema_extra=Runtime,
    )
    weights_dir: PathText | None = Field(
        None,
        description="Folder through which weights go, which the server sees under the same path; "
        "without it `.weights` in `output_dir`.",
        json_schema_extra=Runtime,
    )
    importance_sampling_mode: CorrectionMode = Field(
        "token_truncate",
        description="How the loss is weighed by the ratio of a token's probability in training to "
        "that at the server, or of a whole answer's: truncated at `importance_sampling_clip_max`, "
        "or masked above it.",
    )
    importance_sampling_clip_max: Positive = Field(3.0, description="Largest such ratio.")
    max_logp_difference: Positive = Field(
        0.2,
        description="A run stops where the log-probabilities of training and of the server differ "
        "by more in an update, in nats, on average.",
        json_schema_extra=Runtime,
    )

    @field_validator("server_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not (
            value.startswith(("http://", "https://")) and value.rstrip("/").endswith("/v1")
        ):
            raise PydanticCustomError("url", "http://…/v1 or https://…/v1")
        return value
