"""Prompts and answers about a video: the run's templates, filled from a manifest line."""

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any

from spark_trainer.config import Text
from spark_trainer.data import jsonl, meta
from spark_trainer.data.sample import Unusable

TAGGER = "imagenet-tags"  # the captioner that writes no sentences
NO_TAG = "no tag"  # what it writes of a video in which it knows nothing


def texts(entry: dict[str, Any], text: Text) -> Iterator[tuple[str | None, str]]:
    """Yield the prompt and the answer of each sample of a manifest line.

    Raises:
        Unusable: there are no frames, or no answer.
    """
    if entry["frames_dir"] is None:
        raise Unusable("without frames")
    yield from said(entry, text)


def said(entry: dict[str, Any], text: Text) -> Iterator[tuple[str | None, str]]:
    """Yield the same of a line with or without frames.

    Raises:
        Unusable: there is no answer.
    """
    items = [{}] if text.each is None else entry["meta"].get(text.each) or ()
    if not isinstance(items, list | tuple):
        raise Unusable(f"{text.each}: expected a list of mappings")
    if not items:
        raise Unusable(f"without {text.each}")
    for item in items:
        if not isinstance(item, dict):
            raise Unusable(f"{text.each}: expected a list of mappings")
        values = {"id": entry["id"], **entry["meta"], **item}
        prompt = None if text.prompt is None else filled(text.prompt, values, text)
        answer = filled(text.answer, values, text)
        if not answer:
            raise Unusable("its answer is empty")
        yield prompt, answer


def learns_tags(entry: Mapping[str, Any], text: Text) -> bool:
    """Tell whether an answer is a caption that is none, but names of objects."""
    return "{caption" in text.answer and is_tags(entry["meta"])


def is_tags(meta: Mapping[str, Any]) -> bool:
    """Tell whether the caption of a manifest line is none, but names of objects or "no tag"."""
    return meta.get("captioner") == TAGGER


def of_tags(videos: int) -> str:
    """Return what is to be known of a run that learns such captions, of so many videos."""
    return (
        f"the captions of {videos:,} {'video' if videos == 1 else 'videos'} are names of objects "
        f"({TAGGER}), not sentences: a model learns from them to list names, and nothing else"
    )


def filled(template: str, values: Mapping[str, Any], text: Text) -> str:
    """Return a template filled with the values of a manifest line.

    Raises:
        Unusable: one of them is missing, or doesn't fit.
    """
    for _, name, _, _ in Formatter().parse(template):
        if name is None:
            continue
        value = values.get(name)
        if value in (None, ""):
            raise Unusable(f"without {name}")
        if not isinstance(value, str | int | float):
            raise Unusable(f"{name}: expected a text or a number (got {jsonl.shown(value)})")
    try:
        filled = template.format_map(values).strip()
    except (ValueError, LookupError) as error:
        raise Unusable(f"its values don't fit the template {template!r}: {error}") from None
    if len(filled) > text.max_characters:
        raise Unusable(
            f"a text of {len(filled):,} characters; text.max_characters is {text.max_characters:,}"
        )
    if half := meta.HALVES.search(filled):
        raise Unusable(f"its text holds half a character, {half[0]!a}")
    return filled
