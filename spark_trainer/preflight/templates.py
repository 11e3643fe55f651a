"""Checking that a run's templates can be filled, before there is a manifest."""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Formatter

from spark_trainer.config import STEP_SECTIONS, Labels, Run, Text
from spark_trainer.data import manifest, meta, questions

WIDEST = 100_000  # largest width or precision in a template
LINES = 1000  # of a given manifest, that are searched for a template's names

SOURCES = {"id", *meta.SOURCES}  # always there
NUMBERS = {"duration", "fps", "width", "height", "audio_duration", "agreement"} | {
    "container_duration",
    "container_fps",
}


def known(wanted: Run, reported: Iterable[str], labels: Labels) -> set[str] | None:
    """Return the names that lines of the run's manifest may have.

    Args:
        wanted: the run; a manifest that it names is read for its first lines.
        reported: the steps whose records the manifest of this build reads.
        labels: what the user's files tell.

    Returns:
        The names; None where a given manifest can't be read, which its readers report, or where
        files of labels alone tell the names.
    """
    found = SOURCES | ({questions.ITEMS} if wanted.text.questions else set())
    if wanted.manifest_path is None:
        if labels.meta is not None and labels.meta_keys is None:
            return None
        found |= {*(labels.meta_keys or ())} if labels.meta else set()
        found |= {questions.ITEMS} if labels.questions else set()
        return found.union(*(STEP_SECTIONS[name].MANIFEST for name in reported))
    try:
        for entry in itertools.islice(manifest.read(Path(wanted.manifest_path)), LINES):
            found |= {key for key, value in entry["meta"].items() if value not in (None, "")}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return found


def problems(text: Text, names: set[str], ours: bool = False) -> Iterator[str]:
    """Find names in a run's templates that no line of the manifest can fill.

    Args:
        text: the templates.
        names: the names that lines may have.
        ours: the manifest is built here, so each name has a known type.
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
                yield f"text.{key}: {field!r} doesn't fit the template {template!r}"


def _without(field: str, names: set[str]) -> str:
    for step, section in STEP_SECTIONS.items():
        if field in section.MANIFEST:
            switch = section.SWITCH or step
            return f"no video will have {field!r}; expected {switch}.enabled: true"
    return f"no video will have {field!r}; expected one of: {', '.join(sorted(names))}"


def _fits(field: str, form: str, conversion: str | None, ours: bool) -> bool:
    """Tell whether a value of this name fits the format; an unknown name may have any type."""
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
