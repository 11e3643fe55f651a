"""What frozen vision towers and projectors make of frames, kept before training and fed in it.

A file of a sample holds the features of its frames, the tensors of upstream's processor that are no
pixels, and the texts that this processor writes for the frames: of them and of the sample's own
text come the tokens that it makes where it sees the frames.
"""

import functools
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Run
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds import loading, padding, prompts
from spark_trainer.families.kinds.batch import Encoded
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.families.kinds.padding import PER_TOKEN
from spark_trainer.families.kinds.vision_language import Texts

if TYPE_CHECKING:
    import torch

    from spark_trainer.families.kinds.chat import ChatModel

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}  # by upstream's kinds of frames
FEATURES, DEEPSTACK = "{}_features", "{}_deepstack_"  # a file's tensors of each kind
WRITTEN = "written"  # what stands for the frames in a prompt, as JSON in bytes
OUTPUTS = "mm_encoder_outputs"  # upstream's name for what stands in the place of pixels
LANGUAGE = "language"  # the part that may learn


@dataclass(frozen=True)
class KeptTexts(Texts):
    """Reads samples whose frames the vision tower saw before the training began."""

    family: "ChatModel"
    files: EncodedFiles = field(kw_only=True)

    def read(self, number: int) -> Encoded:
        """See `Reader`; no frame is opened."""
        plan = self.samples.plan(number)
        video = str(plan.entry["id"])
        kept = self.files.read(self.files.vision(self.samples, plan), video)
        said = Sample(video, (), plan.times, plan.prompt, plan.answer)
        return self.family.encode_kept(self.loaded, said, kept, self.max_length)


@dataclass(frozen=True)
class Outputs:
    """What was kept of a batch's frames of one kind, by the names of upstream's outputs."""

    pooler_output: "torch.Tensor | tuple[torch.Tensor, ...]"
    deepstack_features: "list[tuple[torch.Tensor, ...]]"


@dataclass(frozen=True)
class Unseen:
    """Frames that the tower sees in a forward pass, once for all rows that are about them.

    Outside of one it would see nothing where its weights are sharded.

    Attributes:
        visions: what upstream's processor made of each clip.
        counts: how long the features of each clip are, by the names of `features`.
        clip_of: the clip that each row is about.
    """

    visions: "Sequence[dict[str, torch.Tensor]]"
    counts: Sequence[Mapping[str, int]]
    clip_of: Sequence[int]

    def seen(self, model: Any) -> "dict[str, Outputs] | None":
        """Return what the tower makes of the frames, for each row."""
        import torch

        made = features(model, padding.join(self.visions))
        parts = {
            name: torch.split(one, [count[name] for count in self.counts])
            for name, one in made.items()
        }
        rows = [{name: parts[name][clip] for name in parts} for clip in self.clip_of]
        outputs: dict[str, Outputs] | None = fed(padding.join(rows)).get(OUTPUTS)
        return outputs


def see_inside(model: Any) -> None:
    """Let a model's forward pass take `Unseen` where upstream takes what its tower has made."""
    plain = model.model.forward

    @functools.wraps(plain)
    def forward(*args: Any, **inputs: Any) -> Any:
        if isinstance(unseen := inputs.get(OUTPUTS), Unseen):
            inputs[OUTPUTS] = unseen.seen(model)
        return plain(*args, **inputs)

    model.model.forward = forward


def check(family: "ChatModel", model: Any) -> None:
    """Refuse to keep what upstream takes nowhere, or what changes as the model learns or by chance.

    Raises:
        ValueError: another part than the language model learns, the tower has dropout, or upstream
            takes frames alone.
    """
    import torch

    if OUTPUTS not in inspect.signature(model.forward).parameters:
        raise ValueError(
            f"train.encode_vision: expected false, {type(model).__name__} takes nothing but frames"
        )
    learning = {family.part(name) for name, one in model.named_parameters() if one.requires_grad}
    if others := sorted(learning - {LANGUAGE}):
        still = ", ".join(sorted({*family.parts} - {LANGUAGE}))
        raise ValueError(
            f"train.encode_vision: expected false where the model's {' and '.join(others)} learns, "
            f"or train.freeze: [{still}] and no train.lora.targets there"
        )
    dropping = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Dropout) and module.p and family.part(name) != LANGUAGE
    ]
    attending = getattr(model.config.vision_config, "attention_dropout", 0.0)
    if dropping or attending:
        raise ValueError("train.encode_vision: expected false, the tower drops out by chance")


def alone(loaded: Loaded, run: Run, device: "torch.device") -> Loaded:
    """Return a model without its language model, on a device, in the run's precision."""
    import torch

    model, dtype = loaded.model, loading.dtype(run)
    model.lm_head = model.model.language_model = None
    torch.nn.Module.to(model, device)  # upstream's own refuses weights in 4 bits
    if dtype:
        for kind in PIXELS:
            if method := getattr(model.model, f"get_{kind}_features", None):
                setattr(model.model, method.__name__, torch.autocast(device.type, dtype)(method))
    return loaded


def kept(loaded: Loaded, sample: Sample, as_video: bool) -> "dict[str, torch.Tensor]":
    """Return the tensors of a sample's file.

    Raises:
        ValueError: without the frames, the processor would make other tokens of the prompt.
    """
    prompt, _ = prompts.rendered(loaded.processor, sample, as_video, len(sample.images))
    asked = {"return_text_replacement_offsets": True}
    made = prompts.processed(loaded.processor, sample, prompt, as_video, **asked)
    [places] = made.pop("text_replacement_offsets")
    written = [str(place["replacement"]) for place in places]
    _check_tokens(loaded, made, prompts.expanded(loaded.processor, prompt, written, as_video))
    vision = {name: value for name, value in made.items() if name not in PER_TOKEN}
    return _features(loaded.model, vision) | _without_pixels(vision, written)


def _check_tokens(
    loaded: Loaded, made: dict[str, Any], expanded: "dict[str, torch.Tensor]"
) -> None:
    """Refuse a processor that makes other tokens where it sees no frames."""
    import torch

    named = {name for name in made if name in PER_TOKEN}
    if named != expanded.keys() or not all(
        torch.equal(torch.as_tensor(made[name]), expanded[name]) for name in named
    ):
        name = type(loaded.processor).__name__
        raise ValueError(f"train.encode_vision: expected false, {name} can't do without the frames")


def _without_pixels(vision: dict[str, Any], written: list[str]) -> "dict[str, torch.Tensor]":
    """Return what is kept of a processor's output."""
    import torch

    told = {n: torch.as_tensor(v) for n, v in vision.items() if n not in PIXELS.values()}
    text = bytearray(json.dumps(written).encode())
    return told | {WRITTEN: torch.frombuffer(text, dtype=torch.uint8)}


def taken_apart(
    kept: "Mapping[str, torch.Tensor]",
) -> "tuple[dict[str, torch.Tensor], list[str]]":
    """Return a file's tensors of the frames, and what is written for each image or video."""
    vision = {name: value for name, value in kept.items() if name != WRITTEN}
    return vision, json.loads(kept[WRITTEN].numpy().tobytes())


def _features(model: Any, vision: dict[str, Any]) -> "dict[str, torch.Tensor]":
    """Return what the tower and the projector make of a processor's output, on the host."""
    import torch

    with torch.no_grad():
        return {name: value.cpu() for name, value in features(model, vision).items()}


def features(model: Any, vision: dict[str, Any]) -> "dict[str, torch.Tensor]":
    """Return what the tower and the projector make of a processor's output, by a file's names."""
    import torch

    found, device = {}, next(model.parameters()).device
    for kind in (kind for kind, pixels in PIXELS.items() if pixels in vision):
        method = getattr(model.model, f"get_{kind}_features")
        known = inspect.signature(method).parameters
        given = {n: torch.as_tensor(v).to(device) for n, v in vision.items() if n in known}
        made = method(**given, return_dict=True)
        found[FEATURES.format(kind)] = _whole(made.pooler_output)
        for number, one in enumerate(getattr(made, "deepstack_features", None) or ()):
            found[f"{DEEPSTACK.format(kind)}{number}"] = _whole(one)
    return found


def learns(family: "ChatModel", model: Any) -> bool:
    """Tell whether what is made of frames changes as the model learns."""
    return any(
        one.requires_grad and family.part(name) != LANGUAGE
        for name, one in model.named_parameters()
    )


def _whole(features: "torch.Tensor | Sequence[torch.Tensor]") -> "torch.Tensor":
    """Return the features of all images or videos in one."""
    import torch

    return features if isinstance(features, torch.Tensor) else torch.cat([*features])


def fed(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of a forward pass, with kept features where upstream takes them."""
    rest, outputs = dict(inputs), dict[str, Outputs]()
    for kind in PIXELS:
        features = rest.pop(FEATURES.format(kind), None)
        if features is None:
            continue
        deep = [name for name in inputs if name.startswith(DEEPSTACK.format(kind))]
        numbered = sorted(deep, key=lambda name: int(name.rpartition("_")[2]))
        pooled = features if features.ndim > 2 else (features,)
        outputs[kind] = Outputs(pooled, [(rest.pop(name),) for name in numbered])
    return rest | {OUTPUTS: outputs} if outputs else rest
