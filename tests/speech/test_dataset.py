"""Windows of sound as samples: which, with what text, times and random choices."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_trainer.config import Run
from spark_trainer.data.sample import Unusable
from spark_trainer.speech import sound
from spark_trainer.speech.dataset import SpeechDataset
from spark_trainer.speech.references import References
from spark_trainer.speech.segments import Segment
from tests import sounds


def data(
    root: Path,
    *entries: dict[str, Any],
    references: References | None = None,
    fixed: bool = False,
    **settings: Any,
) -> SpeechDataset:
    """Read lines of a manifest."""
    path = root / "manifest.jsonl"
    offset, made = (
        0,
        SpeechDataset(path, root, Run(model_type="asr", **settings), references, fixed),
    )
    lines = [json.dumps(one) + "\n" for one in entries]
    path.write_text("".join(lines))
    for line, one in zip(lines, entries, strict=True):
        made.add(one, offset)
        offset += len(line)
    return made


def spoken(*spans: tuple[float, float, str]) -> list[dict[str, Any]]:
    return [{"start": start, "end": end, "text": text} for start, end, text in spans]


LONG = {
    "audio_duration": 70.0,
    "segments": spoken((1, 12, "one"), (14, 26, "two"), (27, 39, "three"), (60, 65, "four")),
}
# A header (RIFF, 44 bytes) of 16-bit samples, mono, and two samples.
WITHOUT_RATE = struct.pack(
    *("<4sI4s4sIHHIIHH4sI4x", b"RIFF", 40, b"WAVE", b"fmt ", 16, 1, 1, 0, 0, 2, 16, b"data", 4)
)
SURE = {"timestamps": 1, "previous_text": 1, "no_speech": 0}
NEVER = {"timestamps": 0, "previous_text": 0, "no_speech": 0}


def test_a_window_is_a_sample(tmp_path: Path) -> None:
    made = data(tmp_path, sounds.entry(tmp_path, "a"), sounds.entry(tmp_path, "b"), asr=NEVER)
    assert (len(made), made.num_videos, made.languages) == (2, 2, {"en": 2})
    heard = made[1]
    assert (heard.video, heard.said.text) == ("b", "a dog two lamps")
    assert heard.said.segments[0] == Segment(0.0, 1.5, "a dog")
    whole = sound.read(tmp_path / "b/audio.wav", 0, sounds.SECONDS)
    np.testing.assert_array_equal(heard.samples, whole[8000:])


def test_times_reach_to_the_segment_that_is_cut(tmp_path: Path) -> None:
    entry = sounds.entry(tmp_path, "a", **LONG)
    timed, plain = (data(tmp_path, entry, asr=asr) for asr in (SURE, NEVER))
    first, second, last = (timed.plan(number) for number in range(3))
    assert (first.start, first.end, first.said.cut) == (1, 31, 26)
    assert (second.start, second.end, second.said.cut) == (27, 57, None)
    assert second.said.previous == (Segment(0, 11, "one"), Segment(13, 25, "two"))
    assert [one.text for one in last.said.previous] == ["one", "two", "three"]
    without = plain.plan(0)
    assert (without.end, without.said.cut, without.said.previous) == (27, None, ())


def test_choices_are_anew_in_each_epoch_and_the_same_in_each_run(tmp_path: Path) -> None:
    entries = [sounds.entry(tmp_path, f"{n}", **LONG) for n in range(10)]
    made, again, other = (data(tmp_path, *entries, seed=seed) for seed in (0, 0, 1))
    epochs = [[made.plan(n).said for n in range(at, at + len(made))] for at in (0, len(made))]
    assert epochs[0] == [again.plan(n).said for n in range(len(made))]
    assert epochs[0] != epochs[1]
    assert epochs[0] != [other.plan(n).said for n in range(len(made))]
    share = np.mean([said.with_times for epoch in epochs for said in epoch])
    assert 0.25 < share < 0.75
    fixed = [data(tmp_path, *entries, fixed=True, seed=seed) for seed in (0, 1)]
    assert fixed[0].plan(3) == fixed[1].plan(3 + len(made))
    assert fixed[0].plan(3).seed is None


def test_stretches_without_speech_are_taken_at_a_rate(tmp_path: Path) -> None:
    entry = sounds.entry(tmp_path, "a", **LONG)
    counts = {rate: len(data(tmp_path, entry, asr={**NEVER, "no_speech": rate})) for rate in (0, 1)}
    assert counts == {0: 3, 1: 3}
    quiet = {"segments": None, "transcript": None, "no_transcript": "no voice"}
    silent = sounds.entry(tmp_path, "b", **quiet)
    made = data(tmp_path, silent, asr={**SURE, "no_speech": 1})
    assert made[0].said.segments == ()
    none = data(tmp_path, silent, asr=NEVER)
    assert [*map(str, none.left_out)] == ["b: nothing is said, and no_speech takes none of it"]


def test_what_is_encoded_ahead_is_all_that_may_be_drawn(tmp_path: Path) -> None:
    made = data(tmp_path, sounds.entry(tmp_path, "a", **LONG))
    ahead = {(p.start, p.end) for p in map(made.encoded_plan, range(made.num_encoded))}
    drawn = {(p.start, p.end) for p in map(made.plan, range(20 * len(made)))}
    assert ahead == drawn
    assert len(ahead) == 4


def test_a_corrected_text_has_no_times(tmp_path: Path) -> None:
    entry = sounds.entry(tmp_path, "a", corrected="A dog, two lamps.")
    text = {"answer": "{corrected}"}
    said = data(tmp_path, entry, asr=SURE, text=text).plan(0).said
    assert (said.text, said.with_times) == ("A dog, two lamps.", False)
    entry["meta"]["audio_duration"] = 31.0
    [(_, reason)] = data(tmp_path, entry, asr=SURE, text=text).left_out
    assert "a text without times of 31.0 s of sound; expected at most 30 s" in reason


def test_references_stand_in_the_place_of_transcripts(tmp_path: Path) -> None:
    (tmp_path / "said.csv").write_text("id,text,start,end\na,A cat.,1,2\n")
    references = References.read(tmp_path / "said.csv", "train.asr.references")
    entries = [sounds.entry(tmp_path, name, transcriber_model="tiny.en") for name in "ab"]
    asked = {"model_name": "tiny.en", "asr": {**NEVER, "references": str(tmp_path / "said.csv")}}
    given = data(tmp_path, *entries, references=references, **asked)
    assert given[0].said.text == "A cat."
    assert [*map(str, given.left_out)] == ["b: without a reference"]
    assert not given.remarks
    [remark] = data(tmp_path, *entries, model_name="openai/whisper-tiny.en").remarks
    assert "its own mistakes" in remark


def test_what_can_not_be_used_is_told(tmp_path: Path) -> None:
    silent = sounds.entry(tmp_path, "a", no_audio="the video has no sound") | {"audio": None}
    spans = spoken((0, 2, "one"), (1, 5, "two"), (6, 7, "three"))
    partly = sounds.entry(tmp_path, "b", segments=spans)
    made = data(tmp_path, silent, partly, asr=NEVER)
    assert [*map(str, made.left_out)] == ["a: the video has no sound"]
    assert made.remarks == [
        "b: the segment at 0.00 s overlaps the next, so it is left out",
        "b: the segment at 1.00 s overlaps the one before, so it is left out",
    ]
    assert made[0].said.text == "three"


def test_windows_of_each_video_are_shown(tmp_path: Path) -> None:
    many = {
        "audio_duration": 600.0,
        "segments": spoken(*((30 * n, 30 * n + 20, "x") for n in range(20))),
    }
    entries = [sounds.entry(tmp_path, "a", **many), sounds.entry(tmp_path, "b")]
    made = data(tmp_path, *entries, asr=NEVER)
    assert made.shown(1) == [0, 2, 5, 7, 10, 12, 15, 17]
    assert made.shown(2) == [*made.shown(1), 20]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"no sound", "no WAV file"),
        (b"RIFF\x10\0\0\0WAVE", "no WAV file"),
        (WITHOUT_RATE, "no WAV file: it has 0 samples a second"),
    ],
)
def test_sound_that_can_not_be_read_is_unusable(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    made = data(tmp_path, sounds.entry(tmp_path, "a"), asr=NEVER)
    path = tmp_path / "a/audio.wav"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Unusable, match=f"a/audio.wav: .*{reason}"):
        made[0]


def test_a_length_that_the_file_does_not_tell_is_no_length(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(WITHOUT_RATE)
    with pytest.raises(Unusable, match=r"a\.wav: no WAV file: it has 0 samples a second"):
        sound.duration(tmp_path / "a.wav")


def test_sound_of_other_rates_and_channels_is_mixed_down_to_16_khz(tmp_path: Path) -> None:
    times = np.arange(44_100) / 44_100
    tone = 8000 * np.sin(2 * np.pi * 440 * times)
    sounds.write_wav(tmp_path / "tone.wav", np.stack([tone, tone], axis=1), 44_100)
    read = sound.read(tmp_path / "tone.wav", 0.25, 0.75)
    assert abs(len(read) - 8000) <= 32
    assert np.abs(np.fft.rfft(read[:8000])).argmax() == 220
    with pytest.raises(Unusable, match=r"ends before 3\.00 s"):
        sound.read(tmp_path / "tone.wav", 2.0, 3.0)


def test_whole_files_are_evenly_chosen(tmp_path: Path) -> None:
    """The first has four windows, so half of the windows are about half of the files."""
    entries = [sounds.entry(tmp_path, name, **LONG) for name in "abcd"]
    made = data(tmp_path, *entries, asr=NEVER)
    assert [one.video for one in made.recordings(None)] == [*"abcd"]
    assert [one.video for one in made.recordings(len(made) // 2)] == [*"ac"]
    first = next(made.recordings(1))
    assert (first.text, first.language, first.wav) == (
        "one two three four",
        "en",
        tmp_path / "a/audio.wav",
    )
    assert first.silences == ((39, 60), (65, 70.0))


def test_of_a_thousand_wrong_segments_the_first_are_named(tmp_path: Path) -> None:
    late = spoken((1, 2, "there"), *((20 + n, 21 + n, "late") for n in range(1000)))
    made = data(tmp_path, sounds.entry(tmp_path, "a", segments=late), asr=NEVER)
    assert (len(made), len(made.remarks)) == (1, 21)
    assert "20.00 s is not within the 9.00 s of sound, so it is left out" in made.remarks[0]
    assert made.remarks[-1] == "a: and 980 more, so it is left out"


def test_nothing_is_heard_after_the_end_of_a_file(tmp_path: Path) -> None:
    late = {"audio_duration": 9.0, "segments": spoken((1, 2, "there"), (20, 21, "late"))}
    [one] = data(tmp_path, sounds.entry(tmp_path, "a", **late), asr=NEVER).recordings(None)
    assert (one.text, one.silences) == ("there", ((2, 9.0),))
