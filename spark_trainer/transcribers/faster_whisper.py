"""Whisper through CTranslate2: fast on a CPU, 8-bit weights there, 16-bit floats on a GPU."""

from collections.abc import Sequence
from pathlib import Path

from spark_trainer.config import Transcript
from spark_trainer.transcribers import Segment


class FasterWhisper:
    """A loaded CTranslate2 model."""

    def __init__(self, settings: Transcript, model: str, threads: int) -> None:
        from faster_whisper import WhisperModel

        self._settings = settings
        device = settings.device
        if device == "auto":
            import ctranslate2

            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        kind = "int8" if device == "cpu" else "float16"
        self._model = WhisperModel(model, device=device, compute_type=kind, cpu_threads=threads)

    def transcribe(
        self, wav: Path, speech: Sequence[tuple[float, float]] | None
    ) -> tuple[str, list[Segment]]:
        """See `Transcriber`."""
        import ctranslate2

        ctranslate2.set_random_seed(0)  # a fallback to higher temperatures samples
        clips = [f"{second:.3f}" for stretch in speech or () for second in stretch]
        segments, info = self._model.transcribe(
            str(wav),
            language=self._settings.language,
            condition_on_previous_text=False,
            vad_filter=False,
            clip_timestamps=",".join(clips) or "0",
        )
        return info.language, [
            Segment(s.start, s.end, s.text.strip(), s.no_speech_prob) for s in segments
        ]


def load(settings: Transcript, model: str, threads: int) -> FasterWhisper:
    """Load a size, a hub id or a CTranslate2 folder."""
    return FasterWhisper(settings, model, threads)
