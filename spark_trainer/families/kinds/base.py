"""What every family says and does, whatever its kind.

A family is a class without state: declarations at its head, then the few verbs that are its own.
`loaded.model` is the network as it was loaded; `model` is the network in training, which may wrap
it for several processes.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from spark_trainer.config import Run
from spark_trainer.config.optimization import Recomputed
from spark_trainer.data import dataset
from spark_trainer.data.dataset import SplitName, VideoFrameDataset
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.data.sample import Needs
from spark_trainer.data.samples import Samples
from spark_trainer.families.kinds import learning, loading
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.export import Loading
from spark_trainer.families.kinds.generated import Generated
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.reading import Reader, Splits

if TYPE_CHECKING:
    import torch


class Kind(ABC):
    """What the loop, and whatever else trains, asks of any family.

    Attributes:
        kind: its name, which methods give to say what they train.
        model_types: values of `model_type` in a checkpoint's config.json that a family trains, or
            of `_class_name` in a pipeline's model_index.json.
        tag: what the hub calls such a model.
        parts: part of the model -> expressions that the beginning of its parameters' names
            matches; the longest match decides.
        frozen: parts that stay as they are, unless the run's `freeze` says otherwise.
        lora_targets: expression over the full names of the layers that get a low-rank adapter.
        one_frame: whether a sample is one frame; else all frames of a video at once.
        packs: whether samples may stand one after the other in one row.
        mostly_frozen: whether all weights are loaded in the run's precision, because few learn;
            those that do are held in float32 in any case.
        fixed_shapes: whether batches have few shapes, so that it pays to plan kernels for each.
    """

    kind: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    tag: ClassVar[str]
    parts: ClassVar[Mapping[str, tuple[str, ...]]]
    frozen: ClassVar[tuple[str, ...]] = ()
    lora_targets: ClassVar[str]
    one_frame: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    mostly_frozen: ClassVar[bool] = False
    fixed_shapes: ClassVar[bool] = False

    @property
    def needs(self) -> Needs:
        """Return what is read of a video beside its frames."""
        return Needs()

    def recognises(self, name: str) -> bool:
        """Tell whether a name is of weights of the family that no `model_types` are told of."""
        return False

    def samples(self, manifest: Path, root: Path, run: Run, fixed: bool = False) -> Samples:
        """Return an empty data set of what the family learns from; see `VideoFrameDataset`."""
        return VideoFrameDataset(manifest, root, run, self.one_frame, self.needs, fixed)

    def splits(self, manifest: Path, root: Path, run: Run) -> dict[SplitName, Samples]:
        """Read every split of a manifest.

        Raises:
            Broken: some lines are not valid entries.
        """
        return dataset.splits(manifest, run.split, partial(self.samples, manifest, root, run))

    @property
    def trained_components(self) -> tuple[str, ...]:
        """Return the components of a pipeline that are trained; none where there is none."""
        return ()

    def completed(self, run: Run) -> Run:
        """Return the run with what the checkpoint decides where the settings are silent.

        Raises:
            OSError: there is no such checkpoint.
        """
        return run

    @abstractmethod
    def load(self, name: str, options: LoadOptions) -> Loaded:
        """Load a hub id or folder; never pickled weights.

        Raises:
            OSError: it lacks a file, or holds no safetensors weights.
            ValueError: it can't be loaded in the way that the options ask for.
        """

    def check_data(self, manifest: Path, rejected: Path, run: Run) -> None:  # noqa: B027
        """Refuse, by ValueError, what a run gives beside a manifest and doesn't fit it."""

    def check(self, loaded: Loaded, run: Run) -> None:  # noqa: B027  # most have nothing to check
        """Stop before any work where samples of these settings can't be learnt.

        Raises:
            ValueError: the message names the setting and what was expected.
        """

    def part(self, parameter: str) -> str:
        """Return the part that a parameter belongs to: the longest matching beginning."""
        matches = [
            (found.end(), name)
            for name, starts in self.parts.items()
            for start in starts
            if (found := re.match(start, parameter))
        ]
        return max(matches)[1]

    def let_learn(self, model: Any, run: Run) -> None:
        """Let learn what the run trains, and nothing else.

        Raises:
            ValueError: a part or a layer that is named is not there, or nothing is left to train.
        """
        if run.finetune == "full":
            self.freeze(model, run)
        else:
            self.add_adapters(model, run)

    def freeze(self, model: "torch.nn.Module", run: Run) -> None:
        """Hold the parts still that the run, or the family, wants held.

        Raises:
            ValueError: a name that is no part of this family, or nothing is left to train.
        """
        frozen = self.frozen if run.freeze is None else run.freeze
        self.check_parts(frozen)
        if set(frozen) == set(self.parts):
            raise ValueError("train.freeze: every part is frozen, nothing is left to train")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self.part(name) not in frozen)
        learning.widen(model)

    def check_parts(self, frozen: Iterable[str]) -> None:
        """Refuse, by ValueError, names that are no part of this family."""
        if unknown := set(frozen) - set(self.parts):
            raise ValueError(
                f"train.freeze: no part {sorted(unknown)[0]!r}; "
                f"expected some of: {', '.join(self.parts)}"
            )

    def add_adapters(self, model: Any, run: Run) -> None:
        """Freeze the model and add low-rank adapters to its layers.

        Raises:
            ValueError: no layer has one of the names.
        """
        from peft import LoraConfig

        targets = self.lora_targets if run.lora.targets is None else list(run.lora.targets)
        config = LoraConfig(
            r=run.lora.rank,
            lora_alpha=run.lora.alpha,  # type: ignore[arg-type]  # a float is as good
            lora_dropout=run.lora.dropout,
            target_modules=targets,
            exclude_modules=self.without_adapters(run),
        )
        try:
            self.insert(config, model)
        except ValueError as error:
            raise ValueError(f"train.lora.targets: {error}") from None
        learning.widen(model)
        if loading.dtype(run):
            learning.take_inputs_as_they_are(model)

    def without_adapters(self, run: Run) -> str | None:
        """Return an expression over the full names of layers that get no adapter, if any."""
        return None

    @abstractmethod
    def insert(self, config: Any, model: Any) -> None:
        """Put adapters of PEFT's configuration into a model, so that they alone learn."""

    @abstractmethod
    def checkpoint_gradients(self, model: Any, how: Recomputed = True) -> None:
        """Let a model keep less for its backward pass and compute that a second time."""

    def compile_layers(self, loaded: Loaded) -> None:
        """Compile the repeated layers of a model, each by itself, for training.

        Raises:
            ValueError: they are not known to share few graphs, whatever the shapes of batches.
        """
        from spark_trainer.families.kinds import compiling

        layers = self.layers_to_compile(loaded)
        if not layers:
            name = type(loaded.model).__name__
            raise ValueError(
                f"train.compile: expected true or false, no layers of {name} are known to compile "
                "once for all shapes"
            )
        compiling.compile_layers(layers)

    def layers_to_compile(self, loaded: Loaded) -> "list[torch.nn.Module]":
        """Return the layers that share few graphs: by default those that diffusers names.

        Raises:
            ValueError: they would, but not as the model attends.
        """
        names = getattr(loaded.model, "_repeated_blocks", ())
        return [layer for layer in loaded.model.modules() if type(layer).__name__ in names]

    @abstractmethod
    def readers(
        self, loaded: Loaded, splits: Splits, run: Run, device: "torch.device", kept: EncodedFiles
    ) -> tuple[Reader, Reader]:
        """Return what reads the training and the held-out split.

        Args:
            loaded: the model and what feeds it; what the loss needs of it goes to the device.
            splits: the samples.
            run: the settings.
            device: where the model is.
            kept: what frozen encoders made ahead.
        """

    def beside(self, loaded: Loaded, run: Run) -> Reader | None:
        """Return what reads other samples that scores are told of, if any; raises ValueError."""
        return None

    @abstractmethod
    def loss(self, loaded: Loaded, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the losses of the batch's targets."""

    @abstractmethod
    def show(
        self, loaded: Loaded, model: Any, samples: Iterable[Any], run: Run
    ) -> Iterator[Generated]:
        """Yield what a model makes of held-out samples."""

    def scores(self, shown: list[dict[str, Any]], run: Run) -> dict[str, float]:
        """Return metrics of what was shown, from the records of `Generated.save`."""
        return {}

    @abstractmethod
    def export(self, folder: Path, run: Run, loaded: Loaded) -> None:
        """Write trained weights as upstream's classes load them.

        Args:
            folder: an empty one.
            run: the settings.
            loaded: the trained model, whole, and what feeds it.
        """

    @abstractmethod
    def loading(self, folder: Path, run: Run) -> Loading:
        """Return how upstream's classes load what `export` wrote, for the model's card."""

    def load_encoders(self, run: Run, device: "torch.device") -> Loaded:
        """Load the frozen encoders that see samples ahead of the training.

        Raises:
            OSError: they can't be loaded.
            ValueError: samples of these settings can't be learnt, or the kind has no such encoders.
        """
        raise ValueError(f"train.encode: {run.model_name} has nothing to encode ahead")

    def encoded_file(self, kept: EncodedFiles, samples: Any, plan: Any, run: Run) -> Path:
        """Name the file of what the frozen encoders make of a sample that is planned."""
        return (kept.vision if run.encode_vision else kept.clip)(samples, plan)

    def encoded_texts(self, plan: Any, run: Run) -> tuple[str, ...]:
        """Return the texts of a planned sample that the frozen encoders read, each by itself."""
        return ("", plan.answer) if self.needs.text and not run.encode_vision else ()

    def encode_sample(self, loaded: Loaded, sample: Any) -> "dict[str, torch.Tensor]":
        """Return what the frozen encoders make of a sample, whatever is said about it.

        Raises:
            Unusable: it can't be learnt from.
            ValueError: the kind has no such encoders.
        """
        raise ValueError(f"{self.kind} has nothing to encode ahead")

    def encode_text(self, loaded: Loaded, text: str) -> "dict[str, torch.Tensor]":
        """Return what the frozen encoders make of a text.

        Raises:
            Unusable: it can't be learnt from.
            ValueError: the kind has no such encoders.
        """
        raise ValueError(f"{self.kind} has nothing to encode ahead")
