"""Conversations about images and videos: what the chat families do alike.

A sample is one exchange in the checkpoint's own chat template. Its prompt is tokenised exactly as
for generation, with the images in it; the answer's tokens follow, and only they are learnt.

Shapes: B rows, L tokens, N tokens that are predicted, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer import families
from spark_trainer.data import control
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families import IGNORED, PER_TOKEN, Batch, Encoded, Loaded

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PROMPT = "Describe the video."


def encode(loaded: Loaded, sample: Sample, max_length: int, as_video: bool) -> Encoded:
    """One exchange as tokens; a text that is too long is cut, the images never.

    Raises:
        Unusable: prompt and images alone fill `max_length`, or a text holds a control token.
        ValueError: the chat template does not repeat the answer.
    """
    import torch

    control.refuse(
        loaded.processor, f"video {sample.video}: its text", sample.prompt, sample.answer
    )
    prompt, rest = _render(loaded.processor, sample, as_video)
    inputs = _inputs(loaded.processor, sample, prompt, as_video)
    tokens = {name: inputs.pop(name)[0] for name in list(inputs) if name in PER_TOKEN}
    asked = tokens["input_ids"]
    room = max_length - len(asked)
    if room < 1:
        raise Unusable(
            f"video {sample.video}: prompt and images are {len(asked)} tokens, "
            f"train.max_length is {max_length}; raise it, or lower train.clip.num_frames or "
            "train.clip.max_side_px"
        )
    answer = loaded.processor.tokenizer(rest, add_special_tokens=False).input_ids
    if answer[-1] not in _ends(loaded):
        answer = [*answer, _ends(loaded)[0]]
    said = torch.tensor(answer[:room])
    nothing = torch.full_like(asked, IGNORED)
    longer = {"input_ids": torch.cat([asked, said])}
    for name in tokens.keys() - {"input_ids"}:
        value = 1 if name == "attention_mask" else 0
        longer[name] = torch.cat([tokens[name], torch.full_like(said, value)])
    return Encoded(longer, torch.cat([nothing, said]), inputs, len(answer) > room)


def pad(loaded: Loaded, encoded: Sequence[Encoded]) -> Batch:
    """A row for each sample, filled up on the right, and the positions worth a prediction."""
    batch = families.pad(encoded, loaded.processor.tokenizer.pad_token_id or 0)
    return batch | {"logits_to_keep": _predicting(batch["labels"])}


def pack(
    encoded: Sequence[Encoded], positions: "Callable[[Encoded], torch.Tensor] | None" = None
) -> Batch:
    """All samples one after the other in one row, each attending only to itself.

    Args:
        encoded: the samples.
        positions: a sample's positions (3, L) where the family counts in three dimensions; a row
            of text positions goes before them, as upstream's mask for packed rows wants it.
    """
    import torch

    batch: Batch = {}
    for name in encoded[0].tokens.keys() - {"attention_mask"}:
        batch[name] = torch.cat([one.tokens[name] for one in encoded])[None]
    batch["labels"] = torch.cat([one.labels for one in encoded])[None]
    lengths = [len(one.labels) for one in encoded]
    counted = torch.cat([torch.arange(length) for length in lengths])[None]
    if positions is not None:
        spatial = torch.cat([positions(one) for one in encoded], dim=1)[:, None]
        counted = torch.cat([counted[None], spatial])
    batch |= {"position_ids": counted, "packed_lengths": lengths}
    return (
        batch
        | families.vision([one.vision for one in encoded])
        | {"logits_to_keep": _predicting(batch["labels"])}
    )


def loss(model: Any, batch: Batch) -> "torch.Tensor":
    """Sum of the answers' cross-entropy; scores are made only where one is needed."""
    from spark_trainer.losses.next_token import token_loss

    logits_BNV = model(**families.inputs(batch), use_cache=False).logits
    return token_loss(logits_BNV, batch["labels"][:, batch["logits_to_keep"] + 1])


def generate(
    loaded: Loaded, model: Any, sample: Sample, max_new_tokens: int, as_video: bool
) -> str:
    """What the model answers, greedily."""
    inputs = ask(loaded.processor, sample, as_video)
    weight = next(model.parameters())
    moved = {name: value.to(weight.device) for name, value in inputs.items()}
    ids_BL = model.generate(
        **moved, max_new_tokens=max_new_tokens, num_beams=1, do_sample=False, use_cache=True
    )
    said = ids_BL[0, inputs["input_ids"].shape[1] :]
    return str(loaded.processor.tokenizer.decode(said, skip_special_tokens=True)).strip()


def ask(processor: Any, sample: Sample, as_video: bool) -> "dict[str, torch.Tensor]":
    """The question as generation takes it: the prompt up to where the answer starts, the frames."""
    prompt, _ = _render(processor, sample, as_video)
    return _inputs(processor, sample, prompt, as_video)


def _render(processor: Any, sample: Sample, as_video: bool) -> tuple[str, str]:
    """The exchange as text, up to where the answer starts, and from there on."""
    seen = [{"type": "video"}] if as_video else [{"type": "image"} for _ in sample.images]
    question = {"type": "text", "text": PROMPT if sample.prompt is None else sample.prompt}
    asked = [{"role": "user", "content": [*seen, question]}]
    said = {"role": "assistant", "content": [{"type": "text", "text": sample.answer}]}
    prompt = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    whole = processor.apply_chat_template([*asked, said], tokenize=False)
    if whole.startswith(prompt):
        return str(prompt), str(whole[len(prompt) :].rstrip())
    # LLaVA-OneVision's template puts a space before an answer's line break, and none when it asks
    # for one. What generation will see is what is trained on.
    start = whole.rfind(sample.answer)
    if start < 0:
        raise ValueError(f"train.model_name: its chat template changes the answer: {whole[:400]!r}")
    return str(prompt), str(whole[start:].rstrip())


def _inputs(
    processor: Any, sample: Sample, prompt: str, as_video: bool
) -> "dict[str, torch.Tensor]":
    """What upstream's processor makes of the prompt and the frames."""
    import torch

    seen: dict[str, Any] = {"images": [list(sample.images)]}
    if as_video:
        seen = {
            "videos": [_of_one_size(sample.images)],
            "video_metadata": [_metadata(sample)],
            "do_sample_frames": False,
        }
    bos = processor.tokenizer.bos_token
    twice = bool(bos) and prompt.startswith(bos)  # the template wrote it already
    made = processor(text=[prompt], **seen, add_special_tokens=not twice, return_tensors="pt")
    return {name: torch.as_tensor(value) for name, value in made.items()}


def _of_one_size(images: "Sequence[Image]") -> "list[Image]":
    """A video's frames in their commonest size; upstream's processors stack them.

    A frame of another size, as where a phone was turned, keeps its shape between bars.
    """
    from PIL import ImageOps

    sizes = [image.size for image in images]
    size = max(sizes, key=sizes.count)
    return [image if image.size == size else ImageOps.pad(image, size) for image in images]


def _metadata(sample: Sample) -> Any:
    """The frames' times in the form in which upstream's video processors take them.

    A frame's place is its time, at a rate of 1: what a processor writes is then the time since the
    video's start, and the rate that it works out is that of these frames, however few of the
    video's they are.
    """
    from transformers.video_utils import VideoMetadata

    first, last = sample.times[0], sample.times[-1]
    gaps = len(sample.times) - 1
    spacing_s = (last - first) / gaps if gaps and last > first else 1.0
    return VideoMetadata(
        total_num_frames=spacing_s * len(sample.times), fps=1.0, frames_indices=list(sample.times)
    )


def _ends(loaded: Loaded) -> list[int]:
    """Tokens at which generation stops."""
    known = loaded.model.generation_config.eos_token_id
    ends = known if isinstance(known, list) else [known]
    found = [
        token for token in (*ends, loaded.processor.tokenizer.eos_token_id) if token is not None
    ]
    return list(dict.fromkeys(found))


def _predicting(labels_BL: "torch.Tensor") -> "torch.Tensor":
    """Positions (N) whose next token is learnt in any row."""
    return (labels_BL[:, 1:] != IGNORED).any(0).nonzero().squeeze(1)
