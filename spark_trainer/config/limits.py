"""Limits on decoding one video, so that a hostile file harms no other."""

from pydantic import Field

from spark_trainer.config.section import Positive, StepSection


class Limited(StepSection):
    """A section whose step decodes videos."""

    max_cpu_s: Positive = Field(
        60.0,
        description="Most CPU seconds for decoding one second of video; a file that takes more is "
        "rejected.",
    )
    max_memory_gb: Positive = Field(
        8.0, description="Most memory for decoding; a file that takes more is rejected."
    )
