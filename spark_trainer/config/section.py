"""What every section of the configuration is made of."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Device = Literal["cuda", "auto", "cpu"]
Runtime: JsonDict = {
    "runtime": True
}  # a field that changes how fast a result comes, never the result

DEVICE = "`cuda` stops where there is no GPU; `auto` then takes the CPU; `cpu` leaves GPUs alone."
SHARE = "Share of a GPU that a job takes; at 0.5 two jobs run on one."


class ConfigError(ValueError):
    """A configuration that can't be used; the message names the key and what was expected."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused and values can't change later."""

    # Documented flat key -> the section where it lives once the configuration is read.
    flat_keys: ClassVar[dict[str, str]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    def results(self) -> dict[str, Any]:
        """The settings that decide the bytes of a result: everything but the runtime fields."""
        runtime = {
            name
            for name, field in type(self).model_fields.items()
            if field.json_schema_extra == Runtime
        }
        return self.model_dump(mode="json", exclude=runtime)
