"""Whisper by OpenAI's own package, the documented default."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spark_trainer.config import ConfigError, Transcript
from spark_trainer.transcribers import (
    SAMPLE_RATE,
    Heard,
    Segment,
    Sound,
    Word,
    batched,
    openai_weights,
    usable,
)
from spark_trainer.transcribers.rounds import Rounds, instead, to_the_end

FRAME = 160  # samples of a spectrogram's frame
FRAMES_S = SAMPLE_RATE // FRAME


class OpenaiWhisper:
    """A loaded PyTorch model."""

    def __init__(self, settings: Transcript, model: str, device: str, threads: int) -> None:
        import torch
        import whisper

        torch.set_num_threads(threads)
        self._settings = settings
        self.device = usable(device, torch.cuda.is_available())
        self.revision: str | None = None
        self.batch_size = 1
        folder = Path(model)
        if (folder / "model.bin").exists():
            self._model = openai_weights.from_ctranslate2(folder)
        elif folder.is_dir():
            self._model = openai_weights.from_transformers(folder)
        else:
            self._model = whisper.load_model(model, device="cpu")
            if model in whisper._MODELS:  # the address of a size holds its SHA-256
                self.revision = whisper._MODELS[model].split("/")[-2]
        self._model.to(self.device)
        self._half = {"float16": True, "float32": False}.get(
            settings.compute_type, self.device == "cuda"
        )
        if not self._model.is_multilingual and settings.language not in (None, "en"):
            raise ConfigError(
                f"transcript.language: expected en, {settings.whisper_model} is English-only "
                f"(got {settings.language!r})"
            )

    def transcribe(self, sounds: Sequence[Sound]) -> list[Heard]:
        """Transcribe one sound after the other, as the package does; see `Transcriber`."""
        return batched(lambda some: [self._one(x) for x in some], sounds, 1, self._settings)

    def _one(self, sound: Sound) -> Heard:
        import torch

        settings = self._settings
        language, probability = settings.language, None
        if language is None:
            language, probability = self._language(sound)
        torch.manual_seed(0)  # a temperature above 0 draws at random
        with instead(self._model, "decode", self._decode(sound)):
            result: dict[str, Any] = self._model.transcribe(
                sound.samples,
                language=language,
                initial_prompt=settings.initial_prompt,
                carry_initial_prompt=settings.initial_prompt is not None,
                condition_on_previous_text=False,
                clip_timestamps=_clips(sound) or "0",
                word_timestamps=settings.word_timestamps,
                temperature=settings.temperatures,
                beam_size=settings.beams if settings.beams > 1 else None,
                best_of=5,
                compression_ratio_threshold=settings.compression_ratio_threshold,
                logprob_threshold=settings.log_prob_threshold,
                no_speech_threshold=None,  # here it would drop windows without counting them
                fp16=self._half,
            )
        return Heard(language, probability, [_segment(s) for s in result["segments"]])

    def _decode(self, sound: Sound) -> Callable[..., Any]:
        """Return what decodes a window, and passes over the rest of it once a model is stuck."""
        from whisper.tokenizer import get_tokenizer

        begin = get_tokenizer(self._model.is_multilingual).timestamp_begin
        rounds, decode = Rounds(sound, len(self._settings.temperatures)), self._model.decode

        def decoded(*window: Any) -> Any:
            result = decode(*window)
            if rounds.over():
                result = replace(result, tokens=to_the_end(result.tokens, begin))
            return result

        return decoded

    def _language(self, sound: Sound) -> tuple[str, float | None]:
        """Detect the likeliest language of the first 30 s of speech, and its probability."""
        import torch
        import whisper

        if not self._model.is_multilingual:
            return "en", None
        mel = whisper.log_mel_spectrogram(sound.spoken(), self._model.dims.n_mels)
        kind = torch.float16 if self._half else torch.float32
        mel = whisper.pad_or_trim(mel, whisper.audio.N_FRAMES).to(self.device).to(kind)
        _, found = self._model.detect_language(mel)
        language = max(found, key=found.__getitem__)
        return language, float(found[language])


def load(settings: Transcript, model: str, device: str, threads: int) -> OpenaiWhisper:
    """Load a size, a checkpoint file, or a folder of CTranslate2 or transformers weights."""
    return OpenaiWhisper(settings, model, device, threads)


def _clips(sound: Sound) -> list[float]:
    """Return the starts and ends of speech, none of them after the last frame of the sound.

    Upstream rounds each second to a frame of its spectrogram, and stays for ever in a clip that
    ends a frame after the sound does: it holds nothing to step over.
    """
    frames_s = len(sound.samples) // FRAME / FRAMES_S
    return [min(second, frames_s) for part in sound.speech or () for second in part]


def _segment(said: dict[str, Any]) -> Segment:
    words = [Word(w["start"], w["end"], w["word"].strip()) for w in said.get("words", ())]
    return Segment(
        said["start"],
        said["end"],
        said["text"].strip(),
        said["no_speech_prob"],
        said["avg_logprob"],
        said["compression_ratio"],
        said["seek"] / FRAMES_S,
        tuple(word for word in words if word.text),
    )
