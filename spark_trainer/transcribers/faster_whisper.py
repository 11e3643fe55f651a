"""Whisper through CTranslate2: fast on a CPU, and in batches over several videos on a GPU."""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import ConfigError, Transcript
from spark_trainer.speech.formats.ctranslate2 import PADS_SOUND, PREPROCESSOR
from spark_trainer.system import log
from spark_trainer.transcribers import (
    SAMPLE_RATE,
    Heard,
    Item,
    Result,
    Segment,
    Sound,
    Word,
    batched,
    compression,
    usable,
)
from spark_trainer.transcribers.rounds import Rounds, instead

if TYPE_CHECKING:
    import numpy as np

FRAMES_PER_S = 100  # of the spectrogram
SHORTEST_REST_S = 0.5
# Over a window, which take one or two: a model that goes on by less than 0.5 s a time is stuck.
MOST_ROUNDS = 60
SPLIT = "_split_segments_by_timestamps"  # a method of `WhisperModel`

Language = tuple[str, float | None]


@dataclass(frozen=True)
class Window:
    """A stretch of at most 30 s of the sound with this number; times in seconds."""

    number: int
    start: float
    end: float


class FasterWhisper:
    """A loaded CTranslate2 model."""

    def __init__(self, settings: Transcript, model: str, device: str, threads: int) -> None:
        import ctranslate2
        from faster_whisper import WhisperModel, download_model

        self._settings = settings
        # Word times and higher temperatures go window by window; so does sound without known
        # stretches of speech, because where a window ends is known only when it is decoded.
        self._together = (
            settings.vad and not settings.word_timestamps and len(settings.temperatures) == 1
        )
        self.batch_size = settings.batch_size if self._together else 1
        self.device = usable(device, ctranslate2.get_cuda_device_count() > 0)
        kind = settings.compute_type
        if kind == "auto":
            kind = "int8" if self.device == "cpu" else "float16"
        path = model if Path(model).is_dir() else download_model(model)
        commit = re.search(r"/snapshots/([0-9a-f]{40})", path)
        self.revision = commit[1] if commit else None
        # On two cores two workers of one thread are 1.4 times faster than two threads of one.
        self._workers = min(threads, self.batch_size) if self.device == "cpu" else 1
        self._model = WhisperModel(
            path,
            device=self.device,
            compute_type=kind,
            cpu_threads=threads // self._workers,
            num_workers=self._workers,
        )
        self._pads_sound = _learnt_padded_sound(Path(path))
        if not self._model.model.is_multilingual and settings.language not in (None, "en"):
            raise ConfigError(
                f"transcript.language: expected en, {settings.whisper_model} is English-only "
                f"(got {settings.language!r})"
            )
        if self._model.model.n_mels != self._model.feature_extractor.mel_filters.shape[0]:
            raise ValueError("preprocessor_config.json is missing, or is of another model")

    def transcribe(self, sounds: Sequence[Sound]) -> list[Heard]:
        """Transcribe the sounds, in batches over all of them where possible; see `Transcriber`."""
        languages = self._languages(sounds)
        if not self._together:
            return [self._alone(*pair) for pair in zip(sounds, languages, strict=True)]
        found: list[list[Segment]] = [[] for _ in sounds]
        codes = [language for language, _ in languages]
        numbers = sorted(range(len(sounds)), key=codes.__getitem__)
        for code, members in itertools.groupby(numbers, key=codes.__getitem__):
            windows = [Window(n, *part) for n in members for part in sounds[n].speech or ()]
            for number, segment in self._batches(sounds, windows, code):
                found[number].append(segment)
        return [
            Heard(*language, sorted(segments, key=lambda segment: segment.start))
            for language, segments in zip(languages, found, strict=True)
        ]

    def _languages(self, sounds: Sequence[Sound]) -> list[Language]:
        """Detect language and probability of each sound, from its first 30 s of speech."""
        if self._settings.language is not None or not self._model.model.is_multilingual:
            return [(self._settings.language or "en", None)] * len(sounds)

        def detect(some: Sequence[Sound]) -> list[Language]:
            encoded = self._model.encode(self._features(sound.spoken() for sound in some))
            best = [ranked[0] for ranked in self._model.model.detect_language(encoded)]
            return [(token[2:-2], float(share)) for token, share in best]

        return self._batched(detect, sounds)

    def _batched(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
    ) -> list[Result]:
        """Do as `batched`, and divide each batch among the workers."""

        def dealt(some: Sequence[Item]) -> list[Result]:
            each = -(-len(some) // self._workers)
            parts = [some[first : first + each] for first in range(0, len(some), each)]
            with ThreadPoolExecutor(self._workers) as pool:
                return list(itertools.chain.from_iterable(pool.map(function, parts)))

        return batched(dealt, items, self._settings.batch_size, self._settings)

    def _features(self, pieces: "Iterable[np.ndarray]") -> "np.ndarray":
        """Return log-mel spectrograms (pieces, mels, 3000) of at most 30 s each.

        After the sound they have zeros, as faster-whisper fills them up. A model that learnt from
        sound filled up with silence gets that: it makes fewer errors so (docs/speech.md).
        """
        import numpy as np
        from faster_whisper.audio import pad_or_trim

        extract = self._model.feature_extractor
        if self._pads_sound:
            whole = (pad_or_trim(piece, extract.n_samples) for piece in pieces)
            return np.stack([extract(piece, padding=0) for piece in whole])
        return np.stack([pad_or_trim(extract(piece)[..., :-1]) for piece in pieces])

    def _alone(self, sound: Sound, language: Language) -> Heard:
        """Transcribe one sound, one window after the other."""
        settings = self._settings
        clips = [f"{second:.3f}" for stretch in sound.speech or () for second in stretch]
        prompt = settings.initial_prompt

        def decode(_: Sequence[Sound]) -> list[list[Segment]]:
            segments, _ = self._model.transcribe(
                sound.samples,
                language=language[0],
                beam_size=settings.beams,
                temperature=list(settings.temperatures),
                compression_ratio_threshold=settings.compression_ratio_threshold,
                log_prob_threshold=settings.log_prob_threshold,
                no_speech_threshold=None,  # here it would drop windows without counting them
                condition_on_previous_text=False,
                initial_prompt=prompt,
                word_timestamps=settings.word_timestamps,
                vad_filter=False,
                clip_timestamps=",".join(clips) or "0",
            )
            with instead(self._model, SPLIT, self._split(sound)):
                return [[_segment(said) for said in segments]]

        (found,) = batched(decode, [sound], 1, settings)
        return Heard(*language, found)

    def _split(self, sound: Sound) -> Callable[..., Any]:
        """Return what finds a window's segments, and passes over its rest once a model is stuck."""
        rounds, split = Rounds(sound), getattr(self._model, SPLIT)

        def found(*, seek: int, segment_size: int, **window: Any) -> Any:
            parts, end, ended = split(seek=seek, segment_size=segment_size, **window)
            return (parts, seek + segment_size, True) if rounds.over() else (parts, end, ended)

        return found

    def _batches(
        self, sounds: Sequence[Sound], windows: list[Window], language: str
    ) -> Iterable[tuple[int, Segment]]:
        """Yield (number of the sound, segment) for every window, decoded in batches, in any order.

        Where a window's text breaks off, the rest is decoded in another round, unless the model
        hardly goes on any more.
        """
        from faster_whisper.tokenizer import Tokenizer

        model = self._model
        tokenizer = Tokenizer(
            model.hf_tokenizer, model.model.is_multilingual, task="transcribe", language=language
        )
        for _ in range(MOST_ROUNDS):
            results = self._batched(lambda some: self._generate(sounds, some, tokenizer), windows)
            rests: list[Window] = []
            for window, result in zip(windows, results, strict=True):
                seconds = window.end - window.start
                parts, seek, _ = model._split_segments_by_timestamps(
                    tokenizer=tokenizer,
                    tokens=result.sequences_ids[0],
                    time_offset=window.start,
                    segment_size=round(seconds * FRAMES_PER_S),
                    segment_duration=seconds,
                    seek=0,
                )
                yield from ((window.number, s) for s in _segments(parts, result, tokenizer, window))
                rest = Window(window.number, window.start + seek / FRAMES_PER_S, window.end)
                if seek > 0 and rest.end - rest.start >= SHORTEST_REST_S:
                    rests.append(rest)
            windows = rests
            if not windows:
                return
        stuck = ", ".join(f"{window.start:.1f} to {window.end:.1f} s" for window in windows)
        log.logger.warning("transcript: the model is stuck; nothing more is heard in %s", stuck)

    def _generate(self, sounds: Sequence[Sound], windows: Sequence[Window], tokenizer: Any) -> Any:
        """Return CTranslate2's result of each window; see `WhisperModel.generate_with_fallback`."""
        from faster_whisper.transcribe import get_suppressed_tokens

        settings, model = self._settings, self._model
        before = f" {settings.initial_prompt.strip()}" if settings.initial_prompt else ""
        prompt = model.get_prompt(tokenizer, tokenizer.encode(before) if before else [])
        pieces = (_cut(sounds[window.number].samples, window) for window in windows)
        temperature = settings.temperatures[0]
        return model.model.generate(
            model.encode(self._features(pieces)),
            [prompt] * len(windows),
            beam_size=settings.beams if temperature == 0 else 1,
            sampling_topk=1 if temperature == 0 else 0,
            sampling_temperature=temperature or 1.0,
            max_length=model.max_length,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            max_initial_timestamp_index=50,
        )


def load(settings: Transcript, model: str, device: str, threads: int) -> FasterWhisper:
    """Load a size, a hub id or a CTranslate2 folder."""
    return FasterWhisper(settings, model, device, threads)


def _learnt_padded_sound(folder: Path) -> bool:
    """Tell whether a model learnt in a run, which fills sound up before it is a spectrogram."""
    path = folder / PREPROCESSOR
    return path.is_file() and PADS_SOUND in json.loads(path.read_bytes())


def _cut(samples: "np.ndarray", window: Window) -> "np.ndarray":
    return samples[int(window.start * SAMPLE_RATE) : int(window.end * SAMPLE_RATE)]


def _segments(parts: list[dict[str, Any]], result: Any, tokenizer: Any, window: Window) -> Any:
    """Yield the segments of a window with the window's own measures.

    CTranslate2's score is the mean over the tokens; Whisper's mean counts the end token as well.
    """
    tokens = result.sequences_ids[0]
    log_prob = result.scores[0] * len(tokens) / (len(tokens) + 1)
    ratio = compression(tokenizer.decode(tokens).strip())
    for part in parts:
        text = tokenizer.decode(part["tokens"]).strip()
        if text and part["end"] > part["start"]:
            measures = (result.no_speech_prob, log_prob, ratio, window.start)
            yield Segment(part["start"], part["end"], text, *measures)


def _segment(said: Any) -> Segment:
    words = [Word(w.start, w.end, w.word.strip()) for w in said.words or ()]
    return Segment(
        said.start,
        said.end,
        said.text.strip(),
        said.no_speech_prob,
        said.avg_logprob,
        said.compression_ratio,
        said.seek / FRAMES_PER_S,
        tuple(word for word in words if word.text),
    )
