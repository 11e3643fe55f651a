"""Families that make videos, trained as upstream's pipelines run.

`loaded.model` is the network and `loaded.processor` upstream's whole pipeline, which has the frozen
encoders and prepares every input as it does when it makes a video.

What chance decides at a step is drawn apart from what is done with it: `draw`, `arguments`,
`compare`. So a test can give the family the very numbers that a pipeline drew.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from spark_trainer.config import Run
from spark_trainer.config.optimization import Recomputed
from spark_trainer.data import control
from spark_trainer.data.encoded import TEXT, EncodedFiles
from spark_trainer.data.sample import Needs, Sample, Size
from spark_trainer.families.kinds import export, loading, pipelines, recompute
from spark_trainer.families.kinds.base import Kind
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.clips import SEEDS, CachedClips, Clips
from spark_trainer.families.kinds.export import Loading
from spark_trainer.families.kinds.generated import Generated, GeneratedVideo
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.reading import Reader, Splits
from spark_trainer.system import log

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

LOADING_ADAPTER = """\
from diffusers import {pipeline}

pipe = {pipeline}.from_pretrained({base!r})
pipe.load_lora_weights("final")"""
Tensors = dict[str, Any]  # of a clip, or of clips of one shape with a batch dimension in front
Generators = Sequence["torch.Generator"]  # one a clip


class Diffusion(Kind):
    """A family that makes videos; its frozen encoders run where the network does.

    Attributes:
        pipeline: upstream's class.
        network: the pipeline's component that is trained.
        text_conditioned: whether it is told by a text what to show.
        conditions: videos of the same moments that are read beside the frames, see `Needs`.
        optional_conditions: those that are read where `clip.replace` asks for them.
        train_time_encoders: frozen components that the loss needs beside an encoded clip.
        extra_checkpointed: expression over the full names of modules that upstream's gradient
            checkpointing leaves out, and that keep much.
        flips: whether a mirrored clip is as good.
        loading_snippets: folder in `final/` -> lines by which upstream's pipeline takes it, whole
            as they stand; the first one there counts.
    """

    kind = "diffusion"
    mostly_frozen = True
    fixed_shapes = True
    pipeline: ClassVar[str]
    network: ClassVar[str]
    text_conditioned: ClassVar[bool] = True
    conditions: ClassVar[tuple[str, ...]] = ()
    optional_conditions: ClassVar[tuple[str, ...]] = ()
    train_time_encoders: ClassVar[tuple[str, ...]] = ()
    extra_checkpointed: ClassVar[str]
    flips: ClassVar[bool] = True
    loading_snippets: ClassVar[Mapping[str, str]]

    @property
    def needs(self) -> Needs:
        """See `Kind`; every text takes the same room."""
        return Needs(
            text=self.text_conditioned,
            conditions=self.conditions,
            optional_conditions=self.optional_conditions,
            text_is_length=False,
        )

    @property
    def trained_components(self) -> tuple[str, ...]:
        return (self.network,)

    @abstractmethod
    def size_multiple(self, loaded: Loaded) -> int:
        """Return what both sides of a clip must be divisible by, in pixels."""

    def check_lengths(self, loaded: Loaded, lengths: Sequence[int]) -> None:
        """Stop before any work where the network takes no clips of so many frames, longest first.

        Raises:
            ValueError: the message names `train.clip.num_frames` and what was expected.
        """

    def refuse_frames(self, loaded: Loaded, clip: Sample) -> None:
        """Stop a clip whose frames can't be learnt from.

        Raises:
            Unusable: the message names the video.
        """

    @abstractmethod
    def encode(self, loaded: Loaded, clip: Sample, size: Size) -> Tensors:
        """Return what the frozen encoders make of a clip at `size` (width, height), to be kept.

        Raises:
            Unusable: as `refuse_frames`.
        """

    def embed(self, loaded: Loaded, text: str) -> "torch.Tensor":
        """Return the embedding (L, D) of a text, on the CPU; of families that are told one."""
        raise ValueError(f"{type(self).__name__} is told no text")

    def collate(self, clips: Sequence[Tensors]) -> Tensors:
        """Return clips of one shape, each tensor with a batch dimension in front.

        Each has `text` and `empty`, the embedding of no text, where the family is told one.
        """
        return pipelines.stacked(clips)

    @abstractmethod
    def draw(self, loaded: Loaded, clips: Tensors, generators: Generators) -> Any:
        """Draw noise, its level and which conditions to drop, with one generator a clip."""

    @abstractmethod
    def arguments(self, loaded: Loaded, clips: Tensors, draws: Any) -> dict[str, Any]:
        """Return what the network is called with, as upstream's pipeline calls it."""

    @abstractmethod
    def compare(
        self, loaded: Loaded, clips: Tensors, draws: Any, output: "torch.Tensor"
    ) -> "torch.Tensor":
        """Return the loss of each clip (batch,), of what the network said."""

    @abstractmethod
    def call(self, clip: Sample, size: Size) -> dict[str, Any]:
        """Return what upstream's pipeline is asked with, to make as many frames as a clip has."""

    def frames(self, loaded: Loaded, made: Any, clip: Sample) -> "list[Image]":
        """Return the frames of what the pipeline made, where it decoded them itself."""
        return list(made.frames[0])

    def save(self, model: Any, folder: Path) -> None:
        """Write what upstream's pipeline takes in place of its own component."""
        model.save_pretrained(folder / self.network)

    def completed(self, run: Run) -> Run:
        """Return the run with the checkpoint's own size of clips, where it names none."""
        if run.clip.sizes:
            return run
        size = pipelines.own_size(run.model_name, self.pipeline, self.network)
        log.logger.info("train.clip.sizes: %d × %d, the checkpoint's own", *size)
        return run.model_copy(update={"clip": run.clip.model_copy(update={"sizes": (size,)})})

    def load(self, name: str, options: LoadOptions) -> Loaded:
        return pipelines.load(name, options, self.pipeline, self.network)

    def check(self, loaded: Loaded, run: Run) -> None:
        if run.clip.flip and not self.flips:
            text = f"expected false, a mirrored {run.model_name} is wrong"
            raise ValueError(f"train.clip.flip: {text}")
        self.check_lengths(loaded, run.clip.lengths)
        multiple = self.size_multiple(loaded)
        for width, height in run.clip.sizes:
            if width % multiple or height % multiple:
                raise ValueError(
                    f"train.clip.sizes: {width} × {height}; expected sides divisible by {multiple}"
                )
        if export.saves_adapter(run):
            pipelines.check_adapter(type(loaded.processor))

    def insert(self, config: Any, model: Any) -> None:
        from peft import inject_adapter_in_model

        inject_adapter_in_model(config, model.requires_grad_(False))

    def checkpoint_gradients(self, model: Any, how: Recomputed = True) -> None:
        recompute.checkpoint_network(model, self.extra_checkpointed, how)

    def readers(
        self, loaded: Loaded, splits: Splits, run: Run, device: "torch.device", kept: EncodedFiles
    ) -> tuple[Reader, Reader]:
        """See `Kind`; of what is held out no condition is left out."""
        training, validation = splits
        if run.encoded_ahead:
            pipelines.place(loaded, device, self.train_time_encoders)
            return (
                CachedClips(training, self, loaded, run.guidance_dropout, kept),
                CachedClips(validation, self, loaded, 0.0, kept),
            )
        pipelines.place(loaded, device)
        empty = self.text(loaded, "") if self.text_conditioned else None
        return (
            Clips(training, self, loaded, run.guidance_dropout, empty),
            Clips(validation, self, loaded, 0.0, empty),
        )

    def refuse(self, loaded: Loaded, clip: Sample) -> None:
        """Stop a clip that can't be learnt from, before the device sees it.

        Raises:
            Unusable: its frames can't be, or its text holds a control token.
        """
        self.refuse_frames(loaded, clip)
        if self.text_conditioned:
            control.refuse(loaded.processor, f"video {clip.video}: its text", clip.answer)

    def text(self, loaded: Loaded, text: str) -> "torch.Tensor":
        """Return the embedding (L, D) of a text; raises Unusable where it holds a control token."""
        import torch

        control.refuse(loaded.processor, f"the text {text!r}", text)
        with torch.no_grad():
            return self.embed(loaded, text)

    def losses(
        self, loaded: Loaded, model: Any, clips: Tensors, generators: Generators
    ) -> "torch.Tensor":
        """Return the loss of each clip (batch,), drawn for with one generator each."""
        draws = self.draw(loaded, clips, generators)
        output = model(**self.arguments(loaded, clips, draws), return_dict=False)[0]
        return self.compare(loaded, clips, draws, output)

    def loss(self, loaded: Loaded, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the clips' losses; each is drawn for by its own seed."""
        import torch

        generators = [torch.Generator().manual_seed(seed) for seed in batch.tensors[SEEDS]]
        return self.losses(loaded, model, batch.tensors, generators).sum()

    def sample(
        self,
        loaded: Loaded,
        model: Any,
        clip: Sample,
        size: Size,
        num_steps: int,
        generator: "torch.Generator",
    ) -> "list[Image]":
        """Return as many frames as a clip has, made from its conditions by upstream's pipeline."""
        made = pipelines.using(loaded, self.network, model)(
            **self.call(clip, size),
            width=size[0],
            height=size[1],
            num_inference_steps=num_steps,
            generator=generator,
        )
        return self.frames(loaded, made, clip)

    def show(
        self, loaded: Loaded, model: Any, samples: Iterable[Sample], run: Run
    ) -> Iterator[Generated]:
        """Yield what is made of each clip, from the same noise at every evaluation."""
        import torch

        for clip in samples:
            generator = torch.Generator().manual_seed(clip.seed)
            with pipelines.placed(loaded, model.device):
                made = self.sample(
                    loaded, model, clip, clip.frame_size, run.num_sampling_steps, generator
                )
            fps = pipelines.fps(clip.times, clip.video)
            yield GeneratedVideo(clip.video, clip.answer, fps, clip.images, made)

    def export(self, folder: Path, run: Run, loaded: Loaded) -> None:
        """Write the component that learnt, or its adapters, which are put into a freshly loaded
        network where the whole is wanted."""
        model = loaded.model
        if run.finetune == "full":
            self.save(model, folder)
        elif run.save == "adapter":
            pipelines.save_adapter(loaded, self.network, model, folder)
        else:
            base = self.load(run.model_name, LoadOptions(dtype=loading.dtype(run))).model
            self.save(pipelines.merged(base, model), folder)

    def loading(self, folder: Path, run: Run) -> Loading:
        base = export.local_base(run) or run.model_name
        written = [name for name in self.loading_snippets if (folder / name).is_dir()]
        snippet = self.loading_snippets[written[0]] if written else LOADING_ADAPTER
        lines = snippet.format(base=base, pipeline=self.pipeline)
        return Loading("diffusers", self.tag, lines)

    def load_encoders(self, run: Run, device: "torch.device") -> Loaded:
        """See `Kind`; of the network there is the shape alone."""
        loaded = self.load(
            run.model_name, LoadOptions(dtype=loading.dtype(run), encoders_only=True)
        )
        self.check(loaded, run)
        pipelines.place(loaded, device)
        return loaded

    def encode_sample(self, loaded: Loaded, sample: Sample) -> Tensors:
        return self.encode(loaded, sample, sample.frame_size)

    def encode_text(self, loaded: Loaded, text: str) -> Tensors:
        return {TEXT: self.text(loaded, text)}
