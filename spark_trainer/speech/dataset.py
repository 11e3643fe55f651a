"""The samples of a manifest as a speech model learns them: windows of sound, and what is said.

Memory grows by four bytes with each window, and by some twenty with each video: windows are made
again from a manifest's line when one of them is needed.
"""

import hashlib
import random
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Run
from spark_trainer.config.run import SPOKEN
from spark_trainer.data.manifest import entry_at, some
from spark_trainer.data.sample import Unusable
from spark_trainer.data.samples import LeftOut, Samples, named
from spark_trainer.data.texts import filled
from spark_trainer.speech import WINDOW_S, sound
from spark_trainer.speech.heard import Heard, Plan, Recording, Said
from spark_trainer.speech.models import learns_its_own
from spark_trainer.speech.references import References
from spark_trainer.speech.segments import Segment
from spark_trainer.speech.windows import Window, silences, windows

if TYPE_CHECKING:
    import numpy as np

# Why the `transcript` step found nothing, where that is because nobody speaks.
NOBODY_SPEAKS = ("silence", "no voice")
MOST_SHOWN = 8  # windows of a video that show what is made of it
EARLIER = 4  # windows whose text may come before one: 223 tokens are seldom longer
FRAMES_WORK = 1500  # of a window's sound, in characters of text that take as long


class SpeechDataset(Samples):
    """The windows of one split of a manifest.

    Args:
        manifest: the JSON lines.
        root: the folder that the manifest's paths are relative to.
        run: the settings; its `asr`, `text` and `seed` are used.
        references: what is said in the videos; None where the manifest says it.
        fixed: as in `Samples`; nothing is masked.

    Attributes:
        languages: how many windows there are of each language that is told.
        num_silent: how many windows there are in which nobody speaks.
    """

    def __init__(
        self,
        manifest: Path,
        root: Path,
        run: Run,
        references: References | None = None,
        fixed: bool = False,
    ) -> None:
        super().__init__(manifest, fixed)
        self._root, self._text, self._seed, self._asr = root, run.texts, run.seed, run.asr
        self._references = references
        self._lengths = array("i")
        self.languages: Counter[str] = Counter()
        self.num_silent = 0
        self._run = run
        self._warned = False

    def add(self, entry: dict[str, Any], offset: int) -> None:
        """See `Samples`."""
        try:
            found, wrong = self._windows(entry)
        except Unusable as reason:
            self.left_out.append(LeftOut(named(entry), str(reason)))
            return
        wrong = some(wrong)
        if not found:
            said = "; ".join(wrong) or "nothing is said, and no_speech takes none of it"
            self.left_out.append(LeftOut(named(entry), said))
            return
        self.remarks += [f"{named(entry)}: {reason}, so it is left out" for reason in wrong]
        self._warn(entry)
        for place, window in enumerate(found):
            self._lengths.append(_characters(found, place))
            self.num_silent += not window.segments
            if language := self._language(entry, window):
                self.languages[language] += 1
        self._offsets.append(offset)
        self._ends.append(len(self) + len(found))

    def lengths(self) -> "np.ndarray":
        import numpy as np

        return np.frombuffer(self._lengths, np.int32)

    def work(self) -> "np.ndarray":
        """See `Samples`: sound takes as long in every window, text more where it is longer."""
        return self.lengths() + FRAMES_WORK

    def plan(self, number: int) -> Plan:
        epoch, entry, item = self._place(number)
        own = f"{entry['id']}:{item}"
        name = own if self._fixed else f"{self._seed}:{epoch}:{own}"
        draw = random.Random(name)  # noqa: S311
        with_times = draw.random() < self._asr.timestamps
        with_previous = draw.random() < self._asr.previous_text
        seed = None if self._fixed else draw.getrandbits(32)
        return self._planned(entry, item, with_times, with_previous, seed)

    @property
    def num_encoded(self) -> int:
        """See `Samples`: a window's sound is another with times, where its end cuts a segment."""
        return 2 * len(self)

    def encoded_plan(self, number: int) -> Plan:
        second, entry, item = self._place(number)
        return self._planned(entry, item, bool(second), with_previous=False, seed=None)

    def read(self, plan: Plan) -> Heard:
        """Read a window's sound.

        Raises:
            Unusable: it can't be read.
        """
        samples = sound.read(self.wav(plan), plan.start, plan.end)
        return Heard(str(plan.entry["id"]), samples, plan.start, plan.said, plan.seed)

    def wav(self, plan: Plan) -> Path:
        """Name the file that a window's sound is read from."""
        return self._root / str(plan.entry["audio"])

    def shown(self, num_videos: int) -> list[int]:
        """See `Samples`: windows of each video, evenly chosen where there are many."""
        firsts = self.first_of_each_video()[:num_videos]
        return [number for video, first in enumerate(firsts) for number in self._some(video, first)]

    def recordings(self, most: int | None) -> Iterator[Recording]:
        """Yield whole files: all, or evenly chosen ones of about so many windows together."""
        total = self.num_videos
        count = min(total, max(1, total * most // len(self))) if most and total else total
        for place in range(count):
            entry = entry_at(self._manifest, self._offsets[place * total // count])
            duration = self._duration(entry)
            told = (one for one in self._segments(entry) if one.text and one.start < duration)
            said = tuple(sorted(told, key=_start))
            yield Recording(
                str(entry["id"]),
                str(entry["meta"].get("source_path") or entry["id"]),
                self._root / str(entry["audio"]),
                said,
                tuple(silences(said, duration)),
                self._language(entry, Window(0.0, duration, said)),
            )

    def _some(self, video: int, first: int) -> list[int]:
        """Return numbers of windows of a video whose first window is given."""
        total = self._ends[video] - first
        count = min(MOST_SHOWN, total)
        return [first + place * total // count for place in range(count)]

    def _place(self, number: int) -> tuple[int, dict[str, Any], int]:
        """Return a sample's epoch, its manifest line, and the number of its window there."""
        epoch, within = divmod(number, len(self))
        owner = self._owner(within)
        entry = entry_at(self._manifest, self._offsets[owner])
        return epoch, entry, within - (self._ends[owner - 1] if owner else 0)

    def _planned(
        self,
        entry: dict[str, Any],
        item: int,
        with_times: bool,
        with_previous: bool,
        seed: int | None,
    ) -> Plan:
        found, _ = self._windows(entry)
        window = found[item]
        duration = self._duration(entry)
        with_times &= not _untimed(window.segments, duration)
        end = window.end_with_times(duration) if with_times else window.end
        cut = window.following.start - window.start if with_times and window.following else None
        said = Said(
            segments=_from(window),
            cut=cut,
            previous=_previous(found[:item]) if with_previous else (),
            language=self._language(entry, window),
            with_times=with_times,
        )
        return Plan(entry, window.start, end, said, seed)

    def _windows(self, entry: dict[str, Any]) -> tuple[list[Window], list[str]]:
        """Return the windows of a video that are samples, and what of it can't be used.

        Raises:
            Unusable: nothing of it can; the reason says why.
        """
        if not entry.get("audio"):
            raise Unusable(entry["meta"].get("no_audio") or "without audio")
        segments = self._segments(entry)
        found, wrong = windows(segments, self._duration(entry))
        return [one for one in found if one.segments or self._keeps(entry, one)], wrong

    def _keeps(self, entry: dict[str, Any], window: Window) -> bool:
        """Tell whether a window without speech is a sample: by its own place, in every run."""
        name = f"{entry['id']}:{window.start:.3f}".encode()
        drawn = int.from_bytes(hashlib.sha256(name).digest()[:4], "big") / 2**32
        return drawn < self._asr.no_speech

    def _segments(self, entry: dict[str, Any]) -> list[Segment]:
        """Return what is said in a video, from where the run takes it."""
        if self._references:
            segments = self._references.of(entry, self._duration(entry))
            if segments is None:
                raise Unusable("without a reference")
            return segments
        meta = entry["meta"]
        if self._text.answer == SPOKEN and meta.get("segments"):
            return [_segment(one) for one in meta["segments"]]
        if self._text.answer == SPOKEN and meta.get("no_transcript") in NOBODY_SPEAKS:
            return []
        values = {"id": entry["id"], **meta}
        said, duration = filled(self._text.answer, values, self._text), self._duration(entry)
        if duration > WINDOW_S:
            raise Unusable(
                f"a text without times of {duration:.1f} s of sound; expected at most "
                f"{WINDOW_S:.0f} s, or asr.references with times"
            )
        return [Segment(0.0, duration, said)]

    def _language(self, entry: dict[str, Any], window: Window) -> str | None:
        own = next((one.language for one in window.segments if one.language), None)
        return self._asr.language or own or entry["meta"].get("language")

    def _duration(self, entry: dict[str, Any]) -> float:
        known = entry["meta"].get("audio_duration")
        return float(known) if known else sound.duration(self._root / entry["audio"])

    def _warn(self, entry: dict[str, Any]) -> None:
        """Remark, once, that a model is given its own transcripts to learn from."""
        told = entry["meta"].get("transcriber_model")
        if self._warned or not learns_its_own(self._run, told):
            return
        self._warned = True
        self.remarks.append(
            f"{named(entry)}: its transcript is by {told}, the model that is trained, which learns "
            "nothing but its own mistakes from it; expected asr.references, or a corrected text "
            "in text.answer"
        )


def _start(segment: Segment) -> float:
    return segment.start


def _segment(told: Mapping[str, Any]) -> Segment:
    """Return a segment of a manifest's line; one without times lasts no time, and is unusable."""
    start, end = told.get("start"), told.get("end")
    text = str(told.get("text") or "").strip()
    return Segment(0.0 if start is None else start, 0.0 if end is None else end, text)


def _untimed(segments: Sequence[Segment], duration: float) -> bool:
    """Tell whether a text has no times but those of the whole file."""
    return len(segments) == 1 and (segments[0].start, segments[0].end) == (0.0, duration)


def _from(window: Window) -> tuple[Segment, ...]:
    """Return a window's segments with times from its own start."""
    start = window.start
    return tuple(
        replace(one, start=one.start - start, end=one.end - start) for one in window.segments
    )


def _previous(earlier: Sequence[Window]) -> tuple[Segment, ...]:
    """Return what was said in the windows before, with times from their own starts."""
    spoken = [one for one in earlier if one.segments][-EARLIER:]
    return tuple(segment for window in spoken for segment in _from(window))


def _characters(found: Sequence[Window], place: int) -> int:
    """Return about how long a window's row is, without the text before: its text in bytes."""
    return sum(len(one.text.encode()) for one in found[place].segments)
