"""The error rates of whole files, as the project's own transcriber hears them: long-form.

While a model trains, it hears windows that are cut at segments, and writes greedily. Here it hears
what it will once it is used: whole files, with the detector of voices before it, a search with
beams, and the filters behind it.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_trainer import transcribers
from spark_trainer.config import ConfigError, Run, Transcript
from spark_trainer.config.trained import CT2
from spark_trainer.data.files import write_json
from spark_trainer.errors import SparkTrainerError
from spark_trainer.families.kinds import export
from spark_trainer.media.source import Unreadable
from spark_trainer.metrics import speech
from spark_trainer.metrics.score import LONG, WHOLE_FILES
from spark_trainer.speech.formats import names
from spark_trainer.speech.heard import Recording, joined
from spark_trainer.speech.segments import Segment
from spark_trainer.system import log
from spark_trainer.transcribers import Sound, filters, listening

TOLD = ("wer", "cer", "words_recall", "text_on_silence")  # beside them, what the file has
ENGLISH = "en"

Texts = list[list[Segment]]  # what was heard in each file
BeforeAndAfter = tuple[dict[str, float], dict[str, float]]  # scores of the base, and of the trained


def measure(
    folder: Path,
    run: Run,
    parts: Mapping[str, Sequence[Recording]],
    words: Sequence[str],
    device: str,
    write_base: Callable[[Path], None],
) -> BeforeAndAfter:
    """Transcribe whole files with a trained model and its base; write what comes out.

    What hinders it is told in the log, and costs nothing else of the run.

    Args:
        folder: of the trained model; gets `wer.json`.
        run: the settings.
        parts: what is before the names of scores -> the files that they are of.
        words: whose recall is asked for.
        device: type of the one that trained.
        write_base: writes the base into a folder, as the trained model is.

    Returns:
        scores of the base, and of the trained model; none where nothing could be measured, or
        is wanted.
    """
    if not run.asr.whole_files or not any(parts.values()):
        return {}, {}
    try:
        if why := _hindered(run):
            raise ConfigError(why)
        recordings = [one for part in parts.values() for one in part]
        hearing = _Hearing(run, recordings, device)
        after = hearing.trained(folder)
        before = hearing.base(folder, write_base)
    except (SparkTrainerError, ImportError) as error:
        log.logger.warning("the error rates of whole files (wer%s) are missing: %s", LONG, error)
        return {}, {}
    return _written(folder, parts, words, before, after)


def _hindered(run: Run) -> str | None:
    if export.saves_adapter(run):
        return "final/ holds an adapter alone; expected train.save: merged"
    if run.asr.task != "transcribe":
        return "a build transcribes, it doesn't translate"
    return None


@dataclass(frozen=True)
class _Hearing:
    """How the files of a run are heard, before and after."""

    run: Run
    recordings: Sequence[Recording]
    device: str

    @property
    def backend(self) -> str:
        return "faster-whisper" if CT2 in self.run.asr.export else "openai-whisper"

    def trained(self, folder: Path) -> Texts:
        """Return what the trained model hears in each file."""
        return list(self._heard(folder / CT2 if self.backend == "faster-whisper" else folder))

    def base(self, folder: Path, write_base: Callable[[Path], None]) -> Texts | None:
        """Return the same of its base; None where the model began with random weights."""
        if self.run.from_scratch:
            return None
        place = names.path(self.run.model_name)
        if self.backend != "faster-whisper" or names.recognise(place) == "ct2":
            return list(self._heard(place))
        # Within the folder of the model, which a run that is killed here begins anew.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".base-") as made:
            write_base(Path(made))
            return list(self._heard(Path(made) / CT2))

    def _heard(self, place: Path) -> Iterator[list[Segment]]:
        """Yield what a model hears in each file."""
        languages = {one.language or ENGLISH for one in self.recordings}
        settings = Transcript.model_validate(
            {
                "backend": self.backend,
                "whisper_model": str(place),
                "language": languages.pop() if len(languages) == 1 else None,
            }
        )
        model: transcribers.Transcriber | None = None
        for sounds in _batches(map(_sound, self.recordings), settings.batch_size):
            spoken = [sound for sound in sounds if sound.speech]
            model = model or (self._loaded(settings) if spoken else None)
            heard = iter(model.transcribe(spoken) if model else ())
            for sound in sounds:
                found = next(heard).segments if sound.speech else []
                kept, _ = filters.keep(found, sound.duration, settings)
                yield [Segment(one.start, one.end, one.text) for one in kept]

    def _loaded(self, settings: Transcript) -> transcribers.Transcriber:
        import torch

        if self.device == "cuda":
            torch.cuda.empty_cache()  # which the transcriber can't use
        return transcribers.load(settings, self.device, torch.get_num_threads())


def _batches(sounds: Iterable[Sound], most: int) -> Iterator[list[Sound]]:
    """Yield sounds in turn, so many together, or fewer that are long: memory is not for hours."""
    held: list[Sound] = []
    for sound in sounds:
        held.append(sound)
        if len(held) == most or sum(one.duration for one in held) >= listening.AHEAD_S:
            yield held
            held = []
    if held:
        yield held


def _sound(recording: Recording) -> Sound:
    """Read a file; one that can't be read is heard as nothing, and named."""
    import numpy as np

    try:
        return listening.listen(recording.wav, vad=True)
    except (Unreadable, FileNotFoundError) as error:
        log.logger.warning("nothing is heard in %s: %s", recording.path, error)
        return Sound(np.zeros(0, np.float32), ())


def _written(
    folder: Path,
    parts: Mapping[str, Sequence[Recording]],
    words: Sequence[str],
    before: Texts | None,
    after: Texts,
) -> BeforeAndAfter:
    """Compare texts with their references, and write all that is found."""
    found: BeforeAndAfter = {}, {}
    told: dict[str, Any] = {}
    place = 0
    for prefix, recordings in parts.items():
        own = slice(place, place := place + len(recordings))
        part = _part(recordings, words, before[own] if before else None, after[own])
        for known, values in zip(found, (part["before"], part["after"]), strict=True):
            chosen = {name: values[name] for name in TOLD if name in values} if values else {}
            known |= {f"{prefix}{name}{LONG}": value for name, value in chosen.items()}
        told[prefix.strip("_") or "held_out"] = part
    write_json(folder / WHOLE_FILES, told)
    for name, value in found[1].items():
        first = f"{found[0][name]:.1f} → " if name in found[0] else ""
        log.logger.info("whole files: %s %s%.1f", name, first, value)
    return found


def _part(
    recordings: Sequence[Recording], words: Sequence[str], before: Texts | None, after: Texts
) -> dict[str, Any]:
    """Return what is told of some files, and of each of them."""
    files = []
    for number, (one, heard) in enumerate(zip(recordings, after, strict=True)):
        language, text = one.language or ENGLISH, _text(one, heard)
        pair = speech.Pair.of(text, one.text, language)
        files.append(
            {
                "video": one.video,
                "path": one.path,
                "language": language,
                "words": pair.words().length,
                "reference": one.text,
                "text": text,
                "edits": pair.marked(),
                "before": scores([one], [before[number]], words) if before else None,
                "after": scores([one], [heard], words),
            }
        )
    return {
        "before": scores(recordings, before, words) if before else None,
        "after": scores(recordings, after, words),
        "files": files,
    }


def scores(recordings: Sequence[Recording], heard: Texts, words: Sequence[str]) -> dict[str, float]:
    """Compute the error rates of what was heard in whole files.

    Args:
        recordings: the files.
        heard: what was heard in each of them.
        words: whose recall is asked for.

    Returns:
        as `metrics.speech.scores`; what was written on silence counts by the stretches in which
        nobody speaks.
    """
    languages = [one.language or ENGLISH for one in recordings]
    said = [_text(*pair) for pair in zip(recordings, heard, strict=True)]
    found = speech.scores(said, [one.text for one in recordings], languages, words)
    on_silence = [
        any(start <= (one.start + one.end) / 2 < end for one in texts)
        for recording, texts in zip(recordings, heard, strict=True)
        for start, end in recording.silences
    ]
    found.pop("text_on_silence", None)
    if on_silence:
        found["text_on_silence"] = 100 * sum(on_silence) / len(on_silence)
    return found


def _text(recording: Recording, heard: Sequence[Segment]) -> str:
    return joined(tuple(heard), recording.language or ENGLISH)
