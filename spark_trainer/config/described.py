"""What the settings say of themselves, for the help of flags and for `spark-trainer settings`."""

from spark_trainer.config import Config, ConfigError, schema
from spark_trainer.config.reading import section_of

INDENT = "  "


def described(*key: str) -> str:
    """Return the description of a key and its default, as a flag's help shows them.

    Args:
        key: its path, such as `train`, `learning_rate`.
    """
    model: type = Config
    for name in key[:-1]:
        found = section_of(model.model_fields[name].annotation)  # type: ignore[attr-defined]
        assert found is not None
        model = found
    field = model.model_fields[key[-1]]  # type: ignore[attr-defined]
    default = field.get_default(call_default_factory=True)
    shown = str(default).lower() if isinstance(default, bool) else default
    text = f"{field.description}" if default is None else f"{field.description} (default: {shown})"
    return text.replace("%", "%%")


def default_yaml(key: str | None = None) -> str:
    """Return every key with its meaning and default as YAML, or `key` and those below it.

    Args:
        key: its path, such as `train.lora`.

    Raises:
        ConfigError: there is no such key.
    """
    lines = schema.default_yaml(schema.json_schema()).splitlines(keepends=True)
    if key is None:
        return "".join(lines)
    for depth, name in enumerate(key.split(".")):
        lines = _part(lines, INDENT * depth, f"{INDENT * depth}{name}:")
        if not lines:
            raise ConfigError(f"{key}: no such key; `settings` alone shows them all")
    return "".join(lines)


def _part(lines: list[str], indent: str, head: str) -> list[str]:
    """Cut a key out, with the comment above it and all that stands below it."""
    start = next((i for i, line in enumerate(lines) if line.startswith(head)), None)
    if start is None:
        return []
    begin = end = start
    while begin and lines[begin - 1].startswith(f"{indent}#"):
        begin -= 1
    end += 1
    below = (f"{indent} ", f"{indent}- ", f"{indent}#  ")  # keys of each section by name
    while end < len(lines) and lines[end].startswith(below):
        end += 1
    return lines[begin:end]
