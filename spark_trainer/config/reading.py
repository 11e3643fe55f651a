"""Validating plain data as sections, with messages that name the wrong key."""

from typing import Any, TypeVar, get_origin

from pydantic import ValidationError

from spark_trainer.config.section import ConfigError, Section
from spark_trainer.errors import expected_of

Model = TypeVar("Model", bound=Section)


def validated(model: type[Model], data: Any, prefix: str = "") -> Model:
    """Validate `data`, turning pydantic's report into one line per wrong key.

    Raises:
        ConfigError: lines of `key.path: what was expected`. A validator names keys relative to its
            section; the section's path is put in front.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines: list[str] = []
        expected: dict[str, list[str]] = {}
        given: dict[str, Any] = {}
        for problem in error.errors():
            path = _path(model, problem["loc"])
            if len(path) == 2 and model.flat_keys.get(path[1]) == path[0] and path[1] in data:
                path = path[1:]
            key = ".".join(filter(None, [prefix, *path]))
            own = problem.get("ctx", {}).get("error")
            if isinstance(own, ConfigError):
                lines += [f"{key}.{line}" if key else line for line in str(own).splitlines()]
            elif problem["type"] == "extra_forbidden":
                known = _fields_at(model, problem["loc"][:-1])
                lines.append(f"{key}: unknown key; {expected_of(path[-1], known)}")
            elif problem["type"] == "missing":
                lines.append(f"{key}: missing")
            else:
                expected.setdefault(key, []).append(_expected(problem))
                given[key] = problem["input"]
        for key, texts in expected.items():
            if not any(other.startswith(f"{key}.") for other in expected):
                wanted = " or ".join(dict.fromkeys(texts))
                lines.append(f"{key or 'config'}: expected {wanted} (got {given[key]!r})")
        raise ConfigError("\n".join(lines)) from None


# pydantic's type of a problem -> what was expected, where its own message speaks of Python.
EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a section of keys",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "invalid_key": "text as a key",
    "model_type": "a section of keys",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-', a letter or digit first",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "too_short": "at least one of them in a list",
    "tuple_type": "a list",
}


def _expected(problem: Any) -> str:
    """Describe what a value should have been, in a user's words."""
    own = str(problem["msg"])
    for start in ("Value error, ", "Input should be ", "a valid "):
        own = own.removeprefix(start)
    return EXPECTED.get(problem["type"], own)


def _path(model: type[Section], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of a location, without pydantic's additions for members of a union."""
    path: list[str] = []
    inside: type[Section] | None = model
    named: type[Section] | None = None
    for part in location:
        if named is not None:
            path.append(str(part))
            inside, named = named, None
        elif inside is not None:
            path.append(str(part))
            field = inside.model_fields.get(str(part))
            named = each_of(field.annotation) if field else None
            inside = section_of(field.annotation) if field and not named else None
        elif isinstance(part, int) or path[-1] == "runs":
            path.append(str(part))
    return path


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section that a field holds; None where it holds a value."""
    for option in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(option, type) and issubclass(option, Section):
            return option
    return None


def each_of(annotation: Any) -> type[Section] | None:
    """Return the section of each value, where a field holds sections by name."""
    return section_of(annotation) if get_origin(annotation) is dict else None


def _fields_at(model: type[Section], location: tuple[int | str, ...]) -> list[str]:
    parts = iter(location)
    for part in parts:
        annotation = model.model_fields[str(part)].annotation
        inner = section_of(annotation)
        assert inner is not None
        model = inner
        if each_of(annotation):
            next(parts)  # its name
    return [*model.model_fields, *model.flat_keys]


def over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Lay `own` over `base`, section by section."""
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = over(old, value) if both else value  # type: ignore[arg-type]
    return merged
