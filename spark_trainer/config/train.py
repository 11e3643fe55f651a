"""Several training runs with shared settings."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from spark_trainer.config import chain
from spark_trainer.config.reading import over, validated
from spark_trainer.config.run import Run
from spark_trainer.config.section import ConfigError


class Train(Run):
    """Training: the keys of one run, or shared defaults with several named `runs`."""

    runs: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], dict[str, Any]] = (
        Field(
            default_factory=dict,
            description="Runs by name; each lists only what differs from the keys above.",
        )
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Train":
        """Check each run; the shared settings alone may be incomplete."""
        runs = self.resolved().values()
        rewarded = any(run.rft.reward_funcs for run in runs)
        if rewarded and not any(run.model_type == "rft" for run in runs):
            raise ConfigError("model_type: expected rft with rft.reward_funcs")
        return self

    def resolved(self) -> dict[str, Run]:
        """Return the runs by name, each with its own keys laid over the shared ones.

        Raises:
            ConfigError: one can't be, or can't begin with the weights of its `base_run`.
        """
        shared = self.model_dump(exclude={"runs"}, exclude_unset=True)
        if not self.runs:
            return chain.linked({"default": validated(Run, shared)}, {"default": shared})
        runs = {
            name: validated(Run, over(shared, own), f"runs.{name}")
            for name, own in self.runs.items()
        }
        return chain.linked(runs, self.runs)
