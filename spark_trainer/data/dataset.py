"""The samples of a manifest: which videos, which of their frames, which texts.

Memory grows by twenty bytes for each video, not with the captions: a line is kept as its byte
offset, and parsed when it is needed.
"""

import hashlib
import itertools
import random
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from spark_trainer.config import Run, Sampling, Split
from spark_trainer.data import sample, sampling, video
from spark_trainer.data.batches import SHAPE
from spark_trainer.data.layout import Layout
from spark_trainer.data.manifest import entry_at, lines
from spark_trainer.data.sample import REFERENCE, Needs, Plan, Sample, Size, Unusable
from spark_trainer.data.samples import Check, LeftOut, Samples, named
from spark_trainer.data.texts import learns_tags, of_tags, texts

if TYPE_CHECKING:
    import numpy as np

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
Made = TypeVar("Made", bound=Samples)


def split_of(video_hash: str, split: Split, names: Sequence[str] = ()) -> SplitName:
    """Return the split that a video belongs to; its hash decides, so adding videos moves none.

    Args:
        video_hash: of its content.
        split: the settings.
        names: its paths, for `validation_paths`; one that matches a pattern is enough.
    """
    if any(fnmatchcase(name, one) for name in names for one in split.validation_paths):
        return "validation"
    text = f"{split.seed}:{video_hash}".encode()
    share = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
    if share < split.validation:
        return "validation"
    return "test" if share < split.validation + split.test else "train"


def of_entry(entry: Mapping[str, Any], split: Split) -> SplitName:
    """Return the split that the video of a manifest's line belongs to."""
    meta = entry["meta"]
    names = meta.get("sources") or [name for name in (meta.get("source_path"),) if name]
    return split_of(entry["id"], split, names)


class VideoFrameDataset(Samples):
    """The samples of one split of a manifest: frames of videos, and texts about them.

    Random choices are made anew in each epoch, or are those of one of the run's `variants`, in
    turn.

    Args:
        manifest: the JSON lines.
        root: the folder that the manifest's paths are relative to.
        run: the settings; its `text`, `clip` and `seed` are used.
        one_frame: each frame is a sample of its own, for families that see one image.
        needs: what is read beside the frames.
        fixed: as in `Samples`; nothing is flipped.
    """

    def __init__(
        self,
        manifest: Path,
        root: Path,
        run: Run,
        one_frame: bool,
        needs: Needs = Needs(),
        fixed: bool = False,
    ) -> None:
        super().__init__(manifest, fixed)
        self._layout = Layout(root)
        self._text, self._sampling, self._seed = run.text, run.clip, run.seed
        self._variants = run.variants
        self._one_frame, self._needs = one_frame, needs
        self._frames = array("h")
        self._lengths = array("i")
        self._shapes = [*itertools.product(run.clip.lengths, run.clip.sizes or (None,))]
        self._tagged = 0
        self._buckets = array("h")  # which of the shapes each video's clips have

    def add(self, entry: dict[str, Any], offset: int) -> None:
        """Take in a manifest line that starts at byte `offset`."""
        try:
            texts = self._texts(entry)
            for item, (_, answer) in enumerate(texts if self.check else ()):
                self.check(answer, self._meta(entry, item))  # type: ignore[misc]
            _names(entry["meta"], self._needs, self._sampling)
            shape = self._shape(entry["meta"])
        except Unusable as reason:
            self.left_out.append(LeftOut(named(entry), str(reason)))
            return
        frames = self._num_frames(entry["meta"], shape[0])
        self._offsets.append(offset)
        self._frames.append(frames if self._one_frame else 1)
        self._ends.append(len(self) + len(texts) * self._frames[-1])
        self._lengths.append(self._longest(texts) + frames * video.CHARACTERS)
        self._buckets.append(self._shapes.index(shape))
        if self._needs.text and learns_tags(entry, self._text):
            self._tagged += 1
            self.remarks = [of_tags(self._tagged)]

    def _texts(self, entry: dict[str, Any]) -> list[tuple[str | None, str]]:
        if self._needs.text:
            return list(texts(entry, self._text))
        if entry["frames_dir"] is None:
            raise Unusable("without frames")
        return [(None, "")]

    def _meta(self, entry: Mapping[str, Any], item: int) -> dict[str, Any]:
        """Return what the manifest says of a video and of one item of `text.each`."""
        meta: dict[str, Any] = entry["meta"]
        return {**meta, **(meta[self._text.each][item] if self._text.each else {})}

    def _longest(self, texts: list[tuple[str | None, str]]) -> int:
        """Return the characters of the longest text; 0 where every text is of one length."""
        if not self._needs.text_is_length:
            return 0
        return max(len(prompt or "") + len(answer) for prompt, answer in texts)

    def _shape(self, meta: Mapping[str, Any]) -> tuple[int, Size | None]:
        """Return the number of frames of a video's samples, and their size if one is asked for."""
        size = sampling.size(meta, self._sampling.sizes) if self._sampling.sizes else None
        return sampling.length(meta, self._sampling), size

    def _num_frames(self, meta: Mapping[str, Any], wanted: int) -> int:
        """Return how many of the wanted frames the video has."""
        if self._sampling.source == "video" or self._sampling.fps or self._sampling.stride:
            return wanted
        return min(wanted, len(meta.get("frame_times") or (0.0,)))

    @property
    def source(self) -> str:
        """Return `clip.source`."""
        return self._sampling.source

    @property
    def jpeg_decoding(self) -> str:
        """Return `clip.jpeg_decoding`."""
        return self._sampling.jpeg_decoding

    @property
    def decoding(self) -> dict[str, Any]:
        """Return the settings by which a plan's frames are decoded and shrunk."""
        chosen = self._sampling
        return {"max_side_px": chosen.max_side_px, "deinterlace": chosen.deinterlace}

    @property
    def num_encoded(self) -> int:
        """See `Samples`: each sample in all of its variants."""
        return len(self) * (1 if self._fixed else self._variants or 1)

    def encoded_plan(self, number: int) -> Plan:
        return self.plan(number)

    def shown(self, num_videos: int) -> list[int]:
        """See `Samples`: one of each video."""
        return self.first_of_each_video()[:num_videos]

    def lengths(self) -> "np.ndarray":
        """See `Samples`; those of one size and number of frames sort together."""
        import numpy as np

        ends = np.frombuffer(self._ends, np.int64)
        counts = np.concatenate([ends[:1], ends[1:] - ends[:-1]])
        lengths = np.frombuffer(self._lengths, np.int32)
        buckets = np.frombuffer(self._buckets, np.int16).astype(np.int64)
        return np.repeat(lengths + buckets * SHAPE, counts)

    def work(self) -> "np.ndarray":
        """See `Samples`; in characters: a frame counts as the text that takes as many tokens."""
        return self.lengths() % SHAPE  # without the shape that `lengths` sorts by first

    def answers(self) -> Iterator[str]:
        """Yield the answer of each sample, as `plan` has it; each line is read once."""
        for offset, count in zip(self._offsets, self._frames, strict=True):
            for _, answer in self._texts(entry_at(self._manifest, offset)):
                yield from [answer] * count

    def read(self, plan: Plan) -> Sample:
        """Read and decode a sample.

        Raises:
            Unusable: a frame or the video can't be read.
        """
        return sample.read(plan, self._sampling, self._layout)

    def plan(self, number: int) -> Plan:
        """Choose what a sample shows and says, without reading any frame.

        Raises:
            Unusable: the video holds no such frames.
        """
        epoch, within = divmod(number, len(self))
        owner = self._owner(within)
        within -= self._ends[owner - 1] if owner else 0
        item, slot = divmod(within, self._frames[owner])
        entry = entry_at(self._manifest, self._offsets[owner])
        prompt, answer = self._texts(entry)[item]
        name, clip_name = self._keys(epoch, entry["id"], item)
        draw = random.Random(clip_name)  # noqa: S311
        meta = entry["meta"]
        num_frames, size = self._shapes[self._buckets[owner]]
        window = draw if self._sampling.sampling == "random" else None
        times = sampling.moments(meta, self._sampling, num_frames, window)
        if self._needs.conditions and meta.get("pose"):
            times = sampling.on_grid(times, meta["pose"])
        conditions = dict.fromkeys(_names(meta, self._needs, self._sampling), times)
        if REFERENCE in conditions:
            known = tuple(meta.get("frame_times") or (0.0,))
            chosen = draw.choice(known) if self._sampling.reference == "random" else known[0]
            conditions[REFERENCE] = (chosen,)
        return Plan(
            entry=entry,
            times=times[slot : slot + 1] if self._one_frame else times,
            prompt=prompt,
            answer=answer,
            size=size,
            mirrored=self._sampling.flip and not self._fixed and draw.random() < 0.5,
            conditions=conditions,
            seed=_number(name),
            variant=_number(clip_name),
            meta=self._meta(entry, item),
        )

    def _keys(self, epoch: int, video: str, item: int) -> tuple[str, str]:
        """Return the texts that seed random choices: those in training, and those of the frames."""
        if self._fixed:
            return f"{video}:{item}", f"{video}:{item}"
        name = f"{self._seed}:{epoch}:{video}:{item}"
        # A variant of a video is the same in every run and for every text.
        return name, f"{epoch % self._variants}:{video}" if self._variants else name

    def files(self, plan: Plan) -> list[Path]:
        """List the files that the frames of a sample are read from."""
        return sample.files(plan, self._sampling, self._layout)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _names(meta: Mapping[str, Any], needs: Needs, sampling: Sampling) -> list[str]:
    """Return the names of the videos that are read beside the frames of a manifest line.

    Raises:
        Unusable: one of them is missing; the reason is the `pose` step's, where it gave one.
    """
    wanted = [*needs.conditions, *(needs.optional_conditions if sampling.replace else ())]
    for name in wanted:
        if name == REFERENCE:
            continue
        if meta.get(f"{name}_dir") and sampling.source == "video":
            raise Unusable(
                f"{name}_dir is numbered as the frames are; expected clip.source: frames"
            )
        if not meta.get(f"{name}_dir") and not meta.get("pose"):
            raise Unusable(f"without {name}: {meta.get('no_pose') or 'pose.enabled makes it'}")
    return wanted


def splits(
    manifest: Path, split: Split, make: Callable[[bool], Made], check: Check | None = None
) -> dict[SplitName, Made]:
    """Read every split of a manifest, in one pass.

    Args:
        manifest: the JSON lines.
        split: which video belongs to which split.
        make: makes a data set, told whether it is `fixed`.
        check: as in `Samples`.

    Raises:
        Broken: some lines are not valid entries.
    """
    found: dict[SplitName, Made] = {name: make(name != "train") for name in SPLIT_NAMES}
    for samples in found.values():
        samples.check = check
    for line in lines(manifest):
        found[of_entry(line.entry, split)].add(line.entry, line.offset)
    return found


def read(
    manifest: Path, root: Path, run: Run, one_frame: bool, needs: Needs = Needs()
) -> dict[SplitName, VideoFrameDataset]:
    """Read every split of a manifest of videos' frames; raises as `splits`."""
    make = partial(VideoFrameDataset, manifest, root, run, one_frame, needs)
    return splits(manifest, run.split, make)
