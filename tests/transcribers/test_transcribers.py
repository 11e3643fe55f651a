"""What all backends owe: few wrong words, word times, no invented text, bounded memory."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from spark_trainer import transcribers
from spark_trainer.config import ConfigError, Transcript
from spark_trainer.system.memory import OutOfMemory
from spark_trainer.transcribers import filters, listening

Make = Callable[..., "Ear"]  # noqa: F821  # tests/transcribers/conftest.py
Wav = Callable[..., Path]

# openai-whisper takes minutes with 5 beams on a CPU; one beam passes the same tests.
BACKENDS = ["faster-whisper", "openai-whisper"]
slow = pytest.mark.long
NOISE = "anoisesrc=duration=3:amplitude=0.003:seed=1:color=brown"


@pytest.mark.parametrize(
    ("model", "most", "language"),
    [("offline-tiny.en", 0.1, None), pytest.param("base", 0.05, "en", marks=slow)],
)
def test_few_words_are_wrong_and_backends_agree(
    model: str,
    most: float,
    language: str | None,
    ear: Make,
    every_reading: list,
    errors: Callable[..., float],
) -> None:
    rates = {}
    for backend in BACKENDS:
        heard = [ear(backend, model).hear(r.wav) for r in every_reading]
        rates[backend] = errors([r.text for r in every_reading], [text for _, text, _ in heard])
        assert not any(dropped for _, _, dropped in heard)
        if language:
            assert {found.language for found, _, _ in heard} == {language}
            assert min(found.probability for found, _, _ in heard) > 0.9
    assert max(rates.values()) <= most, rates
    assert max(rates.values()) - min(rates.values()) <= 0.02, rates


def test_base_with_few_words_wrong_through_ctranslate2(
    ear: Make, every_reading: list, errors: Callable[..., float]
) -> None:
    heard = [ear("faster-whisper", "base").hear(r.wav) for r in every_reading]
    rate = errors([r.text for r in every_reading], [text for _, text, _ in heard])
    assert rate <= 0.05
    assert {found.language for found, _, _ in heard} == {"en"}
    assert min(found.probability for found, _, _ in heard) > 0.9


@pytest.mark.parametrize("backend", BACKENDS)
def test_words_follow_each_other_inside_their_segment(
    backend: str,
    ear: Make,
    every_reading: list,
) -> None:
    ours = ear(backend, word_timestamps=True)
    path = every_reading[0].wav
    sound = listening.listen(path, vad=True)
    (heard,) = ours.model.transcribe([sound])
    kept, _ = filters.keep(heard.segments, sound.duration, ours.settings)
    for segment in kept:
        times = [time for word in segment.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert segment.start <= times[0] < times[-1] <= segment.end <= sound.duration
        assert " ".join(word.text for word in segment.words) == segment.text
    assert sum(len(segment.words) for segment in kept) > 15


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("vad", [True, False])
def test_music_is_no_speech(backend: str, vad: bool, ear: Make, wav: Wav) -> None:
    """The voice detector hears one in it, so that the filters have to tell."""
    path = wav("bunny-music.flac")
    assert listening.speech(listening.read(path))
    _, text, dropped = ear(backend, vad=vad).hear(path)
    assert text == ""
    assert sum(dropped.values()) > 0


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        ("offline-tiny.en", "faster-whisper"),
        ("offline-tiny.en", "openai-whisper"),
        ("base", "faster-whisper"),
        pytest.param("base", "openai-whisper", marks=slow),
    ],
)
def test_nothing_is_invented_without_the_voice_detector(
    model: str, backend: str, ear: Make, wav: Wav
) -> None:
    """Digital silence, where base says "you"; near silence; the clip that makes base loop."""
    ours = ear(backend, model, vad=False)
    clips = {
        "silence": wav("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", "8"),
        "noise": wav("-f", "lavfi", "-i", NOISE),
        "cup": wav("cup.mp4"),
    }
    for name, path in clips.items():
        _, text, dropped = ours.hear(path)
        assert text == "", (name, text)
        assert dropped or name == "noise"


@pytest.mark.parametrize("clip", ["title.mp4", "cup.mp4", "dog.mp4"])
def test_no_voice_is_found_where_nobody_speaks(clip: str, wav: Wav) -> None:
    assert listening.listen(wav(clip), vad=True).speech == ()


def test_a_gpu_that_the_backend_cannot_use_is_no_cpu() -> None:
    with pytest.raises(ConfigError, match=r"^transcript.device: a GPU is leased, but"):
        transcribers.usable("cuda", has_gpu=False)
    assert transcribers.usable("cuda", has_gpu=True) == "cuda"
    assert transcribers.usable("cpu", has_gpu=True) == "cpu"


def test_a_batch_that_is_too_big_is_halved() -> None:
    tried: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        tried.append(len(items))
        if len(items) > 3:
            raise RuntimeError("CUDA failed with error out of memory")
        return [2 * item for item in items]

    settings = Transcript()
    found = transcribers.batched(work, list(range(10)), 8, settings)
    assert found == [2 * item for item in range(10)]
    assert tried == [8, 4, 2, 2, 2, 2, 2]


def test_too_little_memory_for_one_says_what_to_lower() -> None:
    def work(items: Sequence[int]) -> list[int]:
        raise MemoryError

    with pytest.raises(OutOfMemory) as caught:
        transcribers.batched(work, [1, 2], 8, Transcript())
    for key in ("whisper_model", "beam_size", "compute_type"):
        assert f"transcript.{key}" in str(caught.value)


def test_other_errors_pass() -> None:
    def work(items: Sequence[int]) -> list[int]:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        transcribers.batched(work, [1], 8, Transcript())
