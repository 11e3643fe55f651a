"""What a trainer reads of a manifest: which videos, which of their frames, in which order.

Memory grows by twenty bytes a video, not with the captions: lines are found by their byte offset
and parsed when they are needed.
"""

import hashlib
import json
import random
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spark_trainer.config import Clip, Run, Split
from spark_trainer.data import clip, video
from spark_trainer.data.clip import Size
from spark_trainer.data.clip import Unusable as Unusable
from spark_trainer.data.layout import Layout, frame_name
from spark_trainer.data.texts import texts

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
REFERENCE = "reference"


@dataclass(frozen=True)
class Needs:
    """What a family reads of a video beside its frames.

    `text` says whether an answer is one; `beside` and `either` name videos of the same moments: all
    of `beside`, and all or none of `either`, which `clip.replace` asks for. Each is a file of the
    `pose` step, or a folder of images numbered like the frames that `meta` calls `<name>_dir`.
    `reference` is neither but a frame of the video.
    """

    text: bool = True
    beside: tuple[str, ...] = ()
    either: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """Frames of a video in the order of time, what is asked about them, and what is to be said.

    `times` are seconds from the video's start; `prompt` is None where the family's own is meant.
    `size` is that of the frames where `clip.sizes` asks for one; `beside` are the videos that the
    family's needs name; `seed` is for whatever chance decides when this sample is learnt from,
    `variant` for what it decides about the clip itself.
    """

    video: str
    images: "tuple[Image, ...]"
    times: tuple[float, ...]
    prompt: str | None
    answer: str
    seed: int = 0
    size: Size | None = None
    beside: "Mapping[str, tuple[Image, ...]]" = field(default_factory=dict)
    variant: int = 0

    @property
    def frame_size(self) -> Size:
        """Of the clip as a model sees it."""
        return self.size or self.images[0].size


@dataclass(frozen=True)
class Plan:
    """What a sample will be, from its manifest line, the settings and chance; nothing is read yet.

    `beside` says of which video beside the frames which seconds are read; the other fields are as
    in `Sample`.
    """

    entry: Mapping[str, Any]
    times: tuple[float, ...]
    prompt: str | None
    answer: str
    size: Size | None
    mirrored: bool
    beside: Mapping[str, tuple[float, ...]]
    seed: int
    variant: int


def part_of(video_hash: str, split: Split) -> Part:
    """Which part a video belongs to: its hash decides, so another video never moves it."""
    text = f"{split.seed}:{video_hash}".encode()
    share = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
    if share < split.validation:
        return "validation"
    return "test" if share < split.validation + split.test else "train"


class Samples:
    """The samples of one part of a manifest.

    A sample's number counts on from one epoch to the next: number // len is the epoch, which
    decides what chance draws of a clip, in turn one of the run's `variants` where it has some.

    Args:
        manifest: the JSON lines.
        root: what the manifest's paths are relative to.
        run: the settings; its `text`, `clip` and `seed` are used.
        one_frame: each frame is a sample of its own, for families that see one image.
        needs: what is read beside the frames.
        fixed: chance decides by the video alone, not by the run's seed or the epoch, so that what
            is held out is the same in every run; nothing is flipped.
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
        self._manifest, self._layout = manifest, Layout(root)
        self._text, self._clip, self._seed = run.text, run.clip, run.seed
        self._variants = run.variants
        self._one_frame, self._needs, self._fixed = one_frame, needs, fixed
        self._offsets = array("q")
        self._ends = array("q")  # number of the first sample after each video's
        self._frames = array("h")
        self._lengths = array("i")
        self._sizes = array("h")
        self.left_out: list[str] = []

    def add(self, entry: dict[str, Any], offset: int) -> None:
        """Take in a manifest line that starts at byte `offset`."""
        try:
            texts = self._texts(entry)
            _names(entry["meta"], self._needs, self._clip)
            clip.moments(entry["meta"], self._clip, None)
            shape = clip.size(entry["meta"], self._clip.sizes) if self._clip.sizes else 0
        except Unusable as reason:
            self.left_out.append(f"{entry['id']}: {reason}")
            return
        frames = self._num_frames(entry["meta"])
        self._offsets.append(offset)
        self._frames.append(frames if self._one_frame else 1)
        self._ends.append(len(self) + len(texts) * self._frames[-1])
        longest = max(len(prompt or "") + len(answer) for prompt, answer in texts)
        self._lengths.append(longest + frames * video.CHARACTERS)
        self._sizes.append(shape)

    def _texts(self, entry: dict[str, Any]) -> list[tuple[str | None, str]]:
        if self._needs.text:
            return list(texts(entry, self._text))
        if entry["frames_dir"] is None:
            raise Unusable("without frames")
        return [(None, "")]

    def _num_frames(self, meta: Mapping[str, Any]) -> int:
        if self._clip.source == "video" or self._clip.fps or self._clip.stride:
            return self._clip.num_frames
        return min(self._clip.num_frames, len(meta.get("frame_times", ())) or 1)

    @property
    def source(self) -> str:
        """`clip.source`."""
        return self._clip.source

    @property
    def num_clips(self) -> int:
        """Numbers from 0 below which every clip comes that can be known ahead."""
        return len(self) * (1 if self._fixed else self._variants or 1)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def num_videos(self) -> int:
        """Usable videos of this part."""
        return len(self._offsets)

    def first_of_each_video(self) -> list[int]:
        """Number of one sample per video, in the manifest's order."""
        return [0, *self._ends[:-1]] if self._ends else []

    def lengths(self) -> "np.ndarray":
        """A measure of each sample's length; only its order means something.

        Samples of one size come together, whatever the length of their texts.
        """
        import numpy as np

        ends = np.frombuffer(self._ends, np.int64)
        counts = np.concatenate([ends[:1], ends[1:] - ends[:-1]])
        lengths = np.frombuffer(self._lengths, np.int32)
        sizes = np.frombuffer(self._sizes, np.int16).astype(np.int64)
        return np.repeat(lengths + (sizes << 32), counts)

    def __getitem__(self, number: int) -> Sample:
        """Read and decode a sample.

        Raises:
            Unusable: a frame or the video can't be read.
        """
        plan = self.plan(number)
        images = self._read(plan)
        beside = {name: self._beside(plan, name) for name in plan.beside}
        if plan.mirrored:
            images = video.mirrored(images)
            beside = {name: video.mirrored(shown) for name, shown in beside.items()}
        return Sample(
            plan.entry["id"],
            images,
            plan.times,
            plan.prompt,
            plan.answer,
            plan.seed,
            plan.size,
            beside,
            plan.variant,
        )

    def plan(self, number: int) -> Plan:
        """What a sample will be.

        Raises:
            Unusable: there is no such clip in the video.
        """
        epoch, within = divmod(number, len(self))
        owner = bisect_right(self._ends, within)
        within -= self._ends[owner - 1] if owner else 0
        item, slot = divmod(within, self._frames[owner])
        with open(self._manifest, "rb") as file:
            file.seek(self._offsets[owner])
            entry = json.loads(file.readline())
        prompt, answer = self._texts(entry)[item]
        name, clip_name = self._keys(epoch, entry["id"], item)
        draw = random.Random(clip_name)  # noqa: S311
        meta = entry["meta"]
        times = clip.moments(meta, self._clip, draw if self._clip.sampling == "random" else None)
        if self._needs.beside and "pose" in meta:
            times = clip.on_grid(times, meta["pose"])
        beside = dict.fromkeys(_names(meta, self._needs, self._clip), times)
        if REFERENCE in beside:
            known = tuple(meta.get("frame_times", ())) or (0.0,)
            chosen = draw.choice(known) if self._clip.reference == "random" else known[0]
            beside[REFERENCE] = (chosen,)
        return Plan(
            entry=entry,
            times=times[slot : slot + 1] if self._one_frame else times,
            prompt=prompt,
            answer=answer,
            size=self._clip.sizes[self._sizes[owner]] if self._clip.sizes else None,
            mirrored=self._clip.flip and not self._fixed and draw.random() < 0.5,
            beside=beside,
            seed=_number(name),
            variant=_number(clip_name),
        )

    def _keys(self, epoch: int, video: str, item: int) -> tuple[str, str]:
        """What chance draws by: when the sample is learnt from, and for the clip itself."""
        if self._fixed:
            return f"{video}:{item}", f"{video}:{item}"
        name = f"{self._seed}:{epoch}:{video}:{item}"
        # One of a few variants is the same in every run and for every text.
        return name, f"{epoch % self._variants}:{video}" if self._variants else name

    def _read(self, plan: Plan) -> "tuple[Image, ...]":
        """The video's frames, cut to `size`, or shrunk."""
        if self._clip.source == "frames":
            images = _opened(self._images(plan.entry, "frames_dir", plan.times))
        else:
            images = _decoded(self._layout.source(plan.entry["id"]), plan.times)
        return video.fitted(images, plan.size) if plan.size else tuple(map(self._shrunk, images))

    def _beside(self, plan: Plan, name: str) -> "tuple[Image, ...]":
        """A video that the family's needs name, as it is on disk."""
        files = self._files_beside(plan, name)
        if files[0].suffix == ".mp4":
            return _decoded(files[0], plan.beside[name])
        return _opened(files)

    def files(self, plan: Plan) -> list[Path]:
        """Every file that the frames of a sample are read from."""
        if self._clip.source == "frames":
            found = self._images(plan.entry, "frames_dir", plan.times)
        else:
            found = [self._layout.source(plan.entry["id"])]
        for name in plan.beside:
            found += self._files_beside(plan, name)
        return found

    def _files_beside(self, plan: Plan, name: str) -> list[Path]:
        entry, meta, times = plan.entry, plan.entry["meta"], plan.beside[name]
        if name == REFERENCE:
            return self._images(entry, "frames_dir", times)
        if f"{name}_dir" in meta:
            return self._images(meta, f"{name}_dir", times, meta)
        return [self._layout.root / meta["pose"]["dir"] / f"{name}.mp4"]

    def _images(
        self,
        where: Mapping[str, Any],
        key: str,
        times: tuple[float, ...],
        meta: Mapping[str, Any] | None = None,
    ) -> list[Path]:
        """The images of a folder at these times, each numbered like the frame at that time."""
        known = list((meta or where["meta"]).get("frame_times", ())) or [0.0]
        paths = [
            self._layout.root / where[key] / frame_name(known.index(time) + 1) for time in times
        ]
        others = [path.with_suffix(".png") for path in paths]
        return [
            other if other.exists() and not path.exists() else path
            for path, other in zip(paths, others, strict=True)
        ]

    def _shrunk(self, image: "Image") -> "Image":
        longest = max(image.size)
        if self._clip.max_side_px is None or longest <= self._clip.max_side_px:
            return image
        ratio = self._clip.max_side_px / longest
        return image.resize(
            (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
        )


def _decoded(path: Path, times: tuple[float, ...]) -> "tuple[Image, ...]":
    """A video's frames at these times."""
    try:
        return tuple(video.frames_at(path, times))
    except (OSError, ValueError) as error:
        raise Unusable(f"{path}: {error}") from None


def _opened(paths: list[Path]) -> "tuple[Image, ...]":
    from PIL import Image

    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        except OSError as error:
            raise Unusable(f"{path}: {error.strerror or error}") from None
    return tuple(images)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _names(meta: Mapping[str, Any], needs: Needs, clip: Clip) -> list[str]:
    """The videos beside the frames that are read of a manifest line.

    Raises:
        Unusable: one of them is not there; the reason is the `pose` step's, where it gave one.
    """
    wanted = [*needs.beside, *(needs.either if clip.replace else ())]
    for name in wanted:
        if name == REFERENCE:
            continue
        if f"{name}_dir" in meta and clip.source == "video":
            raise Unusable(
                f"{name}_dir is numbered as the frames are; expected clip.source: frames"
            )
        if f"{name}_dir" not in meta and "pose" not in meta:
            raise Unusable(f"without {name}: {meta.get('no_pose', 'pose.enabled makes it')}")
    return wanted


def read(
    manifest: Path,
    root: Path,
    run: Run,
    one_frame: bool,
    needs: Needs = Needs(),
) -> dict[Part, Samples]:
    """Every part of a manifest, in one pass.

    Raises:
        ValueError: a line that is no manifest entry, with its number.
    """
    parts: dict[Part, Samples] = {
        part: Samples(manifest, root, run, one_frame, needs, fixed=part != "train")
        for part in PARTS
    }
    offset = 0
    with open(manifest, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                parts[part_of(entry["id"], run.split)].add(entry, offset)
            except (KeyError, TypeError, json.JSONDecodeError) as error:
                raise ValueError(f"{manifest}:{number}: no manifest entry: {error!r}") from None
            offset += len(line)
    return parts
