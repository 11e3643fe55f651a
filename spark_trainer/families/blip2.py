"""BLIP-2 (Li et al. 2023, arXiv:2301.12597), `Blip2ForConditionalGeneration`, over OPT or T5.

The image is `num_query_tokens` placeholders at the start of the prompt, filled with what the
Q-Former makes of it. OPT goes on after the prompt; T5 reads the prompt and writes the answer apart.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer import families
from spark_trainer.data import control
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families import IGNORED, Batch, Encoded, Loaded, Wanted

if TYPE_CHECKING:
    import torch

MODEL_TYPES = ("blip-2",)
ONE_FRAME = True
PACKS = False
TAG = "image-text-to-text"
PARTS = {
    "vision": ("vision_model",),
    "qformer": ("qformer", "query_tokens"),
    "projector": ("language_projection",),
    "language": ("language_model",),
}
FROZEN = ("vision", "language")
LORA_TARGETS = r"language_model\..*\.(q_proj|v_proj|q|v)"


def load(name: str, wanted: Wanted) -> Loaded:
    """Load a hub id or folder."""
    return families.load(name, wanted)


def encode(loaded: Loaded, sample: Sample, max_length: int) -> Encoded:
    """The prompt with its image, and the answer.

    The answer ends with the token at which the checkpoint stops: a line break for OPT, as in the
    original training (LAVIS, blip2_opt.py).

    Raises:
        Unusable: prompt and image alone fill `max_length`, or a text holds a control token.
    """
    import torch

    control.refuse(
        loaded.processor, f"video {sample.video}: its text", sample.prompt, sample.answer
    )
    inputs = _inputs(loaded, sample)
    tokens = {name: inputs[name][0] for name in ("input_ids", "attention_mask")}
    asked = tokens["input_ids"]
    decodes_alone = loaded.model.config.use_decoder_only_language_model
    room = max_length - (len(asked) if decodes_alone else 0)
    if room < 1 or len(asked) > max_length:
        raise Unusable(
            f"video {sample.video}: prompt and image are {len(asked)} tokens, "
            f"train.max_length is {max_length}"
        )
    text = f" {sample.answer}" if sample.prompt else sample.answer
    answer = loaded.processor.tokenizer(text, add_special_tokens=False).input_ids
    ends = loaded.model.generation_config.eos_token_id
    answer = [*answer, ends[0] if isinstance(ends, list) else ends]
    labels = said = torch.tensor(answer[:room])
    if decodes_alone:
        labels = torch.cat([torch.full_like(asked, IGNORED), said])
        tokens["input_ids"] = torch.cat([asked, said])
        tokens["attention_mask"] = torch.ones_like(tokens["input_ids"])
    vision = {"pixel_values": inputs["pixel_values"]}
    return Encoded(tokens, labels, vision, cut=len(answer) > room)


def collate(loaded: Loaded, encoded: Sequence[Encoded], packed: bool) -> Batch:
    """Pixels (B, C, H, W), ids, mask (B, L) and labels: (B, L), for T5 the answer's length."""
    assert not packed
    batch = families.pad(encoded, loaded.processor.tokenizer.pad_token_id)
    written = 0
    if not loaded.model.config.use_decoder_only_language_model:
        written = int((batch["labels"] != IGNORED).sum())
    return batch | {families.TOKENS: written + int(batch["attention_mask"].sum())}


def loss(loaded: Loaded, model: Any, batch: Batch) -> "torch.Tensor":
    """Sum of the answers' token losses; T5's scores already stand at their labels."""
    from spark_trainer.losses.next_token import next_token, token_loss

    if not loaded.model.config.use_decoder_only_language_model:
        scores = model(**families.inputs(batch), labels=batch["labels"]).logits
        return token_loss(scores, batch["labels"])
    return next_token(model(**families.inputs(batch)).logits, batch["labels"])


def generate(loaded: Loaded, model: Any, sample: Sample, max_new_tokens: int) -> str:
    """A greedy answer about a frame."""
    inputs = _inputs(loaded, sample)
    device = next(model.parameters()).device
    ids_BL = model.generate(
        **{name: value.to(device) for name, value in inputs.items()},
        max_new_tokens=max_new_tokens,
        num_beams=1,
        do_sample=False,
    )
    decodes_alone = loaded.model.config.use_decoder_only_language_model
    said = ids_BL[0, inputs["input_ids"].shape[1] if decodes_alone else 0 :]
    return str(loaded.processor.tokenizer.decode(said, skip_special_tokens=True)).strip()


def _inputs(loaded: Loaded, sample: Sample) -> "dict[str, torch.Tensor]":
    made = loaded.processor(
        images=list(sample.images), text=[sample.prompt or ""], return_tensors="pt"
    )
    return dict(made)
