"""Dropping segments that Whisper made up, and counting them by reason."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from spark_trainer.config import Transcript
from spark_trainer.transcribers import Segment, Word, compression


def keep(
    segments: Sequence[Segment], duration: float, settings: Transcript
) -> tuple[list[Segment], dict[str, int]]:
    """Return the segments that can be trusted, and how many each filter dropped.

    Args:
        segments: all segments, in order of time.
        duration: length of the audio in seconds.
        settings: the thresholds.
    """
    looping = repeated(segments, settings.max_repeats)
    kept: list[Segment] = []
    dropped: Counter[str] = Counter()
    for number, segment in enumerate(segments):
        why = distrust(segment, duration, settings) or ("repeats" if number in looping else None)
        if why:
            dropped[why] += 1
        else:
            kept.append(tidy(segment, duration))
    return kept, dict(dropped)


def distrust(segment: Segment, duration: float, settings: Transcript) -> str | None:
    """Tell why a segment by itself can't be trusted; None where it can.

    The measures are Whisper's own (openai/whisper, transcribe.py). Each is taken of the whole
    window that was decoded at once, the compression ratio also of the segment's own text.
    """
    if not any(letter.isalnum() for letter in segment.text):
        return "no words"
    if segment.start >= duration:
        return "past the end"  # a window is padded with silence to 30 s
    if segment.no_speech > settings.no_speech_threshold:
        return "no speech"
    ratio = max(segment.compression, compression(segment.text))
    if ratio > settings.compression_ratio_threshold:
        return "repetition"
    if segment.log_prob < settings.log_prob_threshold:
        return "improbable"
    return None


def repeated(segments: Sequence[Segment], most: int) -> set[int]:
    """Return the numbers of the segments that repeat one text.

    These are more than `most` segments of one text in a row, across windows too. Where they are
    more than half of a window, the whole window is dropped: the model was stuck.
    """
    texts = ["".join(filter(str.isalnum, segment.text.casefold())) for segment in segments]
    found: set[int] = set()
    for _, run in itertools.groupby(range(len(segments)), key=texts.__getitem__):
        numbers = list(run)
        if len(numbers) > most:
            found.update(numbers)
    for _, run in itertools.groupby(range(len(segments)), key=lambda n: segments[n].window):
        numbers = list(run)
        if 2 * len(found.intersection(numbers)) > len(numbers):
            found.update(numbers)
    return found


def tidy(segment: Segment, duration: float) -> Segment:
    """Move a segment's end into the audio, and its words into the segment, in order of time."""
    end = max(segment.start, min(segment.end, duration))
    words, at = [], segment.start
    for word in segment.words:
        start = min(max(word.start, at), end)
        at = min(max(word.end, start), end)
        words.append(Word(start, at, word.text))
    return replace(segment, end=end, words=tuple(words))
