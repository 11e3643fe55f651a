"""The base of every section of the configuration, and the types of its fields."""

import os
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from spark_trainer.errors import UserError


def expanded(path: str) -> str:
    """Replace `~` by the home folder, and `$NAME` and `${NAME}` by their values.

    A variable that is not set is refused, unless the path with it exists.
    """
    if not path.strip():
        raise PydanticCustomError("path", "a path")
    try:
        spelled = os.fsencode(path)
    except UnicodeEncodeError:
        spelled = b"\0"
    if b"\0" in spelled:
        raise PydanticCustomError("path", "a path that a file can have")
    found = os.path.expandvars(os.path.expanduser(path))
    unset = re.search(r"\$(\w+|\{[^}]*\})", found)
    if unset and not os.path.lexists(found):
        raise PydanticCustomError("path", "a path; {name} is not set", {"name": unset[0]})
    return found


def _spelled(path: str) -> str:
    """Refuse a path that is not UTF-8, which Snakemake can't record."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("path", "a path in UTF-8") from None
    return path


def _each_expanded(paths: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if not paths:
        raise PydanticCustomError("path", "a path or a list of them")
    return expanded(paths) if isinstance(paths, str) else tuple(map(expanded, paths))


# The type of a key in `meta` of a manifest's line: `text`, `number`, `whole` (number), `flag` or
# `path`; a list of one type, or a mapping.
ValueType = str | list[Any] | dict[str, Any]

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
PathText = Annotated[str, AfterValidator(expanded)]
ResultText = Annotated[PathText, AfterValidator(_spelled)]
PathTexts = Annotated[str | tuple[str, ...], AfterValidator(_each_expanded)]
Share = Annotated[float, Field(gt=0, le=1)]
Device = Literal["cuda", "auto", "cpu"]
# Marks a field that changes how fast a result comes, never the result.
Runtime: JsonDict = {"runtime": True}

DEVICE = "`cuda` needs a GPU and stops without one; `auto` then uses the CPU; `cpu` uses no GPU."
SHARE = "Share of a GPU for one job; with 0.5 two jobs run on one GPU."


class ConfigError(UserError, ValueError):
    """A configuration that can't be used; the message names the key and what was expected."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused and values can't change later."""

    # Documented flat key -> the section where it lives once the configuration is read.
    flat_keys: ClassVar[dict[str, str]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    def results(self) -> dict[str, Any]:
        """Return the settings that a result depends on: all but the runtime fields."""
        runtime = {
            name
            for name, field in type(self).model_fields.items()
            if field.json_schema_extra == Runtime
        }
        return self.model_dump(mode="json", exclude=runtime)


class StepSection(Section):
    """The settings of a step, and its place among the others.

    UPSTREAM    the steps whose results it reads, which must be switched on as well
    SWITCH      the section whose `enabled` switches it on, where that is not its own
    MANIFEST    the keys that it adds to `meta` of a manifest's line, and their types
    CORRECTED   what it reads of what was corrected by hand; see data/corrections.py
    SHARED      those of them that an earlier step has as well: its value stands, if it has any
    """

    UPSTREAM: ClassVar[tuple[str, ...]] = ()
    SWITCH: ClassVar[str | None] = None
    MANIFEST: ClassVar[dict[str, ValueType]] = {}
    CORRECTED: ClassVar[tuple[str, ...]] = ()
    SHARED: ClassVar[tuple[str, ...]] = ()
