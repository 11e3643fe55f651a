"""Write config/default.yaml and config/schema.json from the configuration's models.

python -m spark_trainer.config.schema          print what is out of date: then exit status 1
python -m spark_trainer.config.schema --fix    write both files
"""

import argparse
import difflib
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from spark_trainer.config import Config, Run
from spark_trainer.config.reading import each_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"
CONFIG_DIR = Path(__file__).resolve().parents[2] / "config"
WIDTH = 96
INDENT = "  "

HEADER = """\
# yaml-language-server: $schema=schema.json
# Every key, what it means, its default. Written by `python -m spark_trainer.config.schema --fix`.
# Write your own file with only the keys that you change; config/config.yaml is a start.
"""


def main(arguments: list[str] | None = None) -> int:
    """Compare the generated files with those on disk, or write them."""
    parser = argparse.ArgumentParser(
        prog="python -m spark_trainer.config.schema", description=__doc__
    )
    parser.add_argument("--fix", action="store_true", help="write the files")
    parser.add_argument("--folder", type=Path, default=CONFIG_DIR, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    drifted = False
    for name, text in generated().items():
        path = options.folder / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if options.fix:
            path.write_text(text, encoding="utf-8")
        elif old != text:
            drifted = True
            lines = old.splitlines(keepends=True), text.splitlines(keepends=True)
            sys.stdout.writelines(difflib.unified_diff(*lines, f"{name} (on disk)", name))
    return int(drifted)


def generated() -> dict[str, str]:
    """Return file name -> the text that the file should hold."""
    schema = json_schema()
    return {
        "default.yaml": default_yaml(schema),
        "schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
    }


def json_schema() -> dict[str, Any]:
    """Return the models' JSON schema, in the dialect that Snakemake's `validate` needs.

    A named run has the keys of a run, and a flat key the description of its section's key.
    """
    _, schema = models_json_schema([(Config, "validation"), (Run, "validation")])
    parts = schema["$defs"]
    top = parts.pop("Config")
    for names in parts["Train"]["properties"]["runs"]["patternProperties"].values():
        names.clear()
        names["$ref"] = "#/$defs/Run"
    for key, section in Config.flat_keys.items():
        inner = parts[section.capitalize()]["properties"][key]
        short = {"description": f"Short for {section}.{key}: {inner['description']}"}
        top["properties"][key] = inner | short
    return {"$schema": DIALECT, **top, "$defs": parts}


def default_yaml(schema: dict[str, Any]) -> str:
    """Return YAML of every key with its default, and its description above it."""
    return "".join([HEADER, *_section(Config, schema["$defs"], schema["properties"], "")])


def _section(
    model: type[BaseModel], parts: dict[str, Any], keys: dict[str, Any], indent: str
) -> list[str]:
    lines = []
    for name, field in model.model_fields.items():
        shown = keys[name]
        reference = next((o["$ref"] for o in [shown, *shown.get("anyOf", ())] if "$ref" in o), None)
        if reference is None:
            allowed = _allowed(shown)
            text = (field.description or "") + (f" ({allowed})" if allowed else "")
            lines += ["\n" if not indent else "", _comment(text, indent)]
            value = "…" if field.is_required() else field.get_default(call_default_factory=True)
            value = list(value) if isinstance(value, tuple) else value
            dumped = yaml.safe_dump({name: value}, allow_unicode=True, width=WIDTH)
            lines.append(textwrap.indent(dumped, indent))
            lines += _each(field, parts, shown)
            continue
        inner = _model(field.annotation)
        part = parts[reference.rpartition("/")[2]]
        description = " ".join(filter(None, [part["description"], field.description]))
        lines += ["\n" if not indent else "", _comment(description, indent), f"{indent}{name}:\n"]
        lines += _section(inner, parts, part["properties"], indent + "  ")
    return lines


def _each(field: FieldInfo, parts: dict[str, Any], shown: dict[str, Any]) -> list[str]:
    """Return, as comments, the keys of each section of a field that holds sections by name."""
    inner = each_of(field.annotation)
    if inner is None:
        return []
    [named] = shown["patternProperties"].values()
    keys = parts[named["$ref"].rpartition("/")[2]]["properties"]
    text = "".join(["  name:\n", *_section(inner, parts, keys, INDENT * 2)])
    return [f"#{line}\n" for line in text.splitlines()]


def _model(annotation: Any) -> type[BaseModel]:
    options = (annotation, *getattr(annotation, "__args__", ()))
    return next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))


def _allowed(shown: dict[str, Any]) -> str:
    """Describe the accepted values, where there is a list or a bound."""
    if "enum" in shown:
        return "one of: " + ", ".join(str(value) for value in shown["enum"])
    signs = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return ", ".join(f"{sign} {shown[key]}" for key, sign in signs.items() if key in shown)


def _comment(text: str, indent: str) -> str:
    mark = f"{indent}# "
    lines = textwrap.wrap(text, WIDTH, initial_indent=mark, subsequent_indent=mark)
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
