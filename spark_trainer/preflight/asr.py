"""What a run that hears is given beside its data, looked through before there is any."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from spark_trainer.config import Run
from spark_trainer.data.jsonl import Broken
from spark_trainer.speech import files
from spark_trainer.speech.formats import names
from spark_trainer.speech.references import References


def problems(wanted: Run, key: str) -> Iterator[str]:
    """Find what of a run's `asr` can't be read, or what its model never learnt.

    Whether references belong to videos, and whether weights at a path know a language, shows only
    later.

    Args:
        wanted: a run of a speech model.
        key: of its settings.
    """
    asr, reading = wanted.asr, list[Callable[[], object]]()
    if asr.references is not None:
        reading.append(partial(References.read, Path(asr.references), f"{key}.references"))
    if asr.words is not None:
        reading.append(partial(files.words, Path(asr.words), f"{key}.words"))
    for read in reading:
        try:
            read()
        except Broken as error:
            yield str(error)
    if asr.forgetting is not None and not Path(asr.forgetting).is_file():
        yield f"{key}.forgetting: no such file: {asr.forgetting}"
    if wanted.model_name.endswith(".en") and not names.is_local(wanted.model_name):
        yield from _beyond_english(wanted, key)


def _beyond_english(wanted: Run, key: str) -> Iterator[str]:
    """Find what an English-only model is asked to learn."""
    asr, model = wanted.asr, wanted.model_name
    if asr.language not in (None, "en"):
        yield f"{key}.language: expected en, {model} is English-only (got {asr.language!r})"
    if asr.task == "translate":
        yield f"{key}.task: expected transcribe, {model} never learnt to translate"
