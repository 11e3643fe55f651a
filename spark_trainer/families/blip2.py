"""BLIP-2 (Li et al. 2023, arXiv:2301.12597), `Blip2ForConditionalGeneration`, over OPT or T5.

The image is `num_query_tokens` placeholders at the start of the prompt, filled with what the
Q-Former makes of it. OPT goes on after the prompt; T5 reads the prompt and writes the answer apart.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer.data import control
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families.kinds import padding
from spark_trainer.families.kinds.batch import IGNORED, Batch, Encoded
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.families.kinds.vision_language import Decoding, VisionLanguage, decoded

if TYPE_CHECKING:
    import torch


class Blip2(VisionLanguage):
    model_types = ("blip-2",)
    one_frame = True
    tag = "image-text-to-text"
    parts = {
        "vision": ("vision_model",),
        "qformer": ("qformer", "query_tokens"),
        "projector": ("language_projection",),
        "language": ("language_model",),
    }
    frozen = ("vision", "language")
    lora_targets = r"language_model\..*\.(q_proj|v_proj|q|v)"

    def encode(self, loaded: Loaded, sample: Sample, max_length: int) -> Encoded:
        """Return the prompt with its image, and the answer; see `VisionLanguage`.

        The answer ends with the token at which the checkpoint stops: a line break for OPT, as in
        the original training (LAVIS, blip2_opt.py).

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
        room = max_length - (len(asked) if _decodes_alone(loaded) else 0)
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
        if _decodes_alone(loaded):
            labels = torch.cat([torch.full_like(asked, IGNORED), said])
            tokens["input_ids"] = torch.cat([asked, said])
            tokens["attention_mask"] = torch.ones_like(tokens["input_ids"])
        vision = {"pixel_values": inputs["pixel_values"]}
        return Encoded(tokens, labels, vision, cut=len(answer) > room)

    def collate(self, loaded: Loaded, encoded: Sequence[Encoded], packed: bool) -> Batch:
        """Return pixels (B, C, H, W), ids, mask (B, L) and labels: (B, L), or T5's answer's."""
        assert not packed
        tensors = padding.pad(encoded, loaded.processor.tokenizer.pad_token_id)
        num_learnt = padding.num_learnt(tensors["labels"])
        written = 0 if _decodes_alone(loaded) else num_learnt
        return Batch(tensors, num_learnt, written + int(tensors["attention_mask"].sum()))

    def logits(
        self, loaded: Loaded, model: Any, batch: Batch
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """See `VisionLanguage`; T5's scores already stand at their labels."""
        labels_BL = batch.tensors["labels"]
        if not _decodes_alone(loaded):
            return model(**batch.tensors).logits, labels_BL
        return model(**batch.inputs).logits[:, :-1], labels_BL[:, 1:]

    def answers(self, loaded: Loaded, model: Any, sample: Sample, decoding: Decoding) -> list[str]:
        """Return answers about a frame."""
        inputs = padding.repeated(_inputs(loaded, sample), decoding.num_answers)
        device = next(model.parameters()).device
        ids_BL = model.generate(
            **{name: value.to(device) for name, value in inputs.items()}, **decoding.options
        )
        asked = inputs["input_ids"].shape[1] if _decodes_alone(loaded) else 0
        return decoded(loaded, ids_BL[:, asked:])


def _decodes_alone(loaded: Loaded) -> bool:
    """Tell whether the language model is a decoder, as OPT is."""
    return bool(loaded.model.config.use_decoder_only_language_model)


def _inputs(loaded: Loaded, sample: Sample) -> "dict[str, torch.Tensor]":
    """Return what upstream's processor makes of the prompt and the frame."""
    made = loaded.processor(
        images=list(sample.images), text=[sample.prompt or ""], return_tensors="pt"
    )
    return dict(made)
