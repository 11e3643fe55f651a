"""Readers of clips, for the families that make videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from spark_trainer.config import Run
from spark_trainer.data import control
from spark_trainer.data.dataset import VideoFrameDataset
from spark_trainer.data.encoded import EMPTY, TEXT, EncodedFiles
from spark_trainer.data.sample import REFERENCE, Sample
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.families.kinds.reading import Reader

if TYPE_CHECKING:
    import torch

    from spark_trainer.families.kinds.diffusion import Diffusion

SEEDS, DROPOUT = "seeds", "guidance_dropout"  # in a batch, beside its tensors


@dataclass(frozen=True)
class Clips(Reader):
    """Reads clips whose frames workers decode; the frozen encoders run on the device.

    `guidance_dropout` is how often a condition is left out, `empty` the embedding of no text where
    the family is told a text.
    """

    samples: VideoFrameDataset
    family: "Diffusion"
    loaded: Loaded
    guidance_dropout: float
    empty: "torch.Tensor | None"

    def largest(self, run: Run) -> Batch:
        return largest(self, run)

    def resident(self) -> "list[torch.nn.Module]":
        """See `Reader`: all of the pipeline."""
        return _modules(self.loaded, list(self.loaded.processor.components))

    def read(self, number: int) -> Sample:
        clip: Sample = self.samples[number]
        self.family.refuse(self.loaded, clip)
        return clip

    def collated(self, read: list[Sample]) -> list[Batch]:
        """See `Reader`; nothing is encoded yet."""
        alike = _grouped(read, [(clip.frame_size, len(clip.images)) for clip in read])
        return [
            Batch({"clips": group, SEEDS: [clip.seed for clip in group]}, len(group))
            for group in alike
        ]

    def ready(self, batch: Batch, device: "torch.device") -> Batch:
        """See `Reader`; the frozen encoders see the clips."""
        tensors = self.family.collate([self._encoded(clip) for clip in batch.tensors["clips"]])
        tensors |= {SEEDS: batch.tensors[SEEDS], DROPOUT: self.guidance_dropout}
        return batch._replace(tensors=tensors).to(device)

    def _encoded(self, clip: Sample) -> "dict[str, torch.Tensor]":
        made = self.family.encode_sample(self.loaded, clip)
        if self.empty is None:
            return made
        return made | self.family.encode_text(self.loaded, clip.answer) | {EMPTY: self.empty}


class CachedClip(NamedTuple):
    """What was kept of a clip, and the seed by which it is learnt from."""

    tensors: "dict[str, torch.Tensor]"
    seed: int


@dataclass(frozen=True)
class CachedClips(Reader):
    """Reads what the frozen encoders made of every clip before the training began."""

    samples: VideoFrameDataset
    family: "Diffusion"
    loaded: Loaded
    guidance_dropout: float
    files: EncodedFiles

    def largest(self, run: Run) -> Batch:
        return largest(self, run)

    def resident(self) -> "list[torch.nn.Module]":
        """See `Reader`: what the loss needs beside what was kept."""
        return _modules(self.loaded, self.family.train_time_encoders)

    def read(self, number: int) -> CachedClip:
        plan = self.samples.plan(number)
        video = str(plan.entry["id"])
        if self.family.text_conditioned:
            control.refuse(self.loaded.processor, f"video {video}: its text", plan.answer)
        tensors = self.files.read(self.files.clip(self.samples, plan), video)
        if self.family.text_conditioned:
            for key, text in ((TEXT, plan.answer), (EMPTY, "")):
                tensors[key] = self.files.read(self.files.text(text), video)[TEXT]
        return CachedClip(tensors, plan.seed)

    def collated(self, read: list[CachedClip]) -> list[Batch]:
        shapes = [
            tuple((name, *value.shape) for name, value in one.tensors.items() if name != TEXT)
            for one in read
        ]
        return [self._batch(group) for group in _grouped(read, shapes)]

    def _batch(self, clips: list[CachedClip]) -> Batch:
        tensors = self.family.collate([clip.tensors for clip in clips])
        tensors |= {SEEDS: [clip.seed for clip in clips], DROPOUT: self.guidance_dropout}
        return Batch(tensors, len(clips))


def largest(reader: Clips | CachedClips, run: Run) -> Batch:
    """Return a batch of grey clips, of the longest and largest that `clip` allows."""
    from PIL import Image

    family, loaded = reader.family, reader.loaded
    shapes = product(run.clip.lengths, run.clip.sizes)
    num_frames, size = max(shapes, key=lambda shape: shape[0] * shape[1][0] * shape[1][1])
    frames = (Image.new("RGB", size),) * num_frames
    needs = family.needs
    names = (*needs.conditions, *(needs.optional_conditions if run.clip.replace else ()))
    conditions = {name: frames[: 1 if name == REFERENCE else None] for name in names}
    times = tuple(float(second) for second in range(num_frames))
    clip = Sample("grey", frames, times, None, "grey", size=size, conditions=conditions)
    one = family.encode_sample(loaded, clip)
    if family.text_conditioned:
        texts = {TEXT: clip.answer, EMPTY: ""}
        one |= {name: family.encode_text(loaded, text)[TEXT] for name, text in texts.items()}
    number = run.batch_size
    told = {SEEDS: list(range(number)), DROPOUT: reader.guidance_dropout}
    return Batch(family.collate([one] * number) | told, number)


def _modules(loaded: Loaded, names: Sequence[str]) -> "list[torch.nn.Module]":
    """Return the components of these names that are networks, but for the one that is trained."""
    import torch

    parts = [loaded.processor.components[name] for name in names]
    return [p for p in parts if isinstance(p, torch.nn.Module) and p is not loaded.model]


def _grouped(things: Sequence[Any], keys: Sequence[Any]) -> list[list[Any]]:
    """Return things of one key together, in the order in which the keys come."""
    groups: dict[Any, list[Any]] = {}
    for thing, key in zip(things, keys, strict=True):
        groups.setdefault(key, []).append(thing)
    return list(groups.values())
