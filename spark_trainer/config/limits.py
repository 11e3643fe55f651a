"""What one video may take at most, so that a hostile file costs itself alone."""

from pydantic import Field

from spark_trainer.config.section import Positive, StepSection


class Limited(StepSection):
    """A section whose step decodes videos."""

    max_cpu_s: Positive = Field(
        60.0,
        description="CPU time that decoding one second of video may take; a file that takes more "
        "is rejected.",
    )
    max_memory_gb: Positive = Field(
        8.0, description="Memory that decoding may take; a file that takes more is rejected."
    )
