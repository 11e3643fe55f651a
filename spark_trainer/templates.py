"""Whether a run's templates can be filled, told before there is a manifest."""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Formatter

from spark_trainer.config import STEP_SECTIONS, Run, Text
from spark_trainer.data import manifest, meta

WIDEST = 100_000  # characters that a template may fill up to, or digits that it may ask for
LINES = 1000  # of a given manifest, that are searched for what a template names

SOURCES = {"id", *meta.SOURCES}  # always there
NUMBERS = {"duration", "fps", "width", "height", "audio_duration", "agreement"} | {
    "container_duration",
    "container_fps",
}


def known(wanted: Run, reported: Iterable[str]) -> set[str] | None:
    """What lines of the run's manifest may have.

    Args:
        wanted: the run; what a manifest of its own has is read from its first lines.
        reported: the steps whose records the manifest that is built here reads.

    Returns:
        The names; None where a manifest can't be read, which whoever needs it says.
    """
    if wanted.manifest_path is None:
        return SOURCES.union(*(STEP_SECTIONS[name].MANIFEST for name in reported))
    found = set(SOURCES)
    try:
        for entry in itertools.islice(manifest.read(Path(wanted.manifest_path)), LINES):
            found |= {key for key, value in entry["meta"].items() if value not in (None, "")}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return found


def problems(text: Text, names: set[str], ours: bool = False) -> Iterator[str]:
    """What of a run's templates can't be filled by any video whose line has these names.

    Args:
        text: the templates.
        names: what the lines have.
        ours: the lines are written here, so that each name has its one type.
    """
    if text.each and text.each not in names:
        yield f"text.each: {_without(text.each, names)}"
    for key in ("prompt", "answer"):
        template = getattr(text, key) or ""
        for _, field, form, conversion in Formatter().parse(template):
            # The items of a list have names of their own.
            if field and field not in names and not text.each:
                yield f"text.{key}: {_without(field, names)}"
            elif field and not _fits(field, form or "", conversion, ours):
                yield f"text.{key}: {field!r} can't be shown in the way of {template!r}"


def _without(field: str, names: set[str]) -> str:
    for step, section in STEP_SECTIONS.items():
        if field in section.MANIFEST:
            switch = section.SWITCH or step
            return f"no video will have {field!r}; expected {switch}.enabled: true"
    return f"no video will have {field!r}; expected one of: {', '.join(sorted(names))}"


def _fits(field: str, form: str, conversion: str | None, ours: bool) -> bool:
    """Whether a value of this name can be shown so; of unknown names it may be of any kind."""
    if any(int(digits) > WIDEST for digits in re.findall(r"\d+", form)):
        return False
    known = field in SOURCES or field in meta.KEYS
    numbers = (1.5,) if ours and meta.KEYS.get(field) == "number" else (1, 1.5)
    values = numbers if field in NUMBERS else ("text",) if known else ("text", 1, 1.5)
    for value in values:
        try:
            ("{" + (f"!{conversion}" if conversion else "") + f":{form}" + "}").format(value)
        except (ValueError, IndexError, KeyError):
            continue
        return True
    return False
