"""BLIP captioning (Li et al. 2022, arXiv:2201.12086), `BlipForConditionalGeneration`.

Shapes: B samples, L tokens, C channels, H and W pixels.
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


class Blip(VisionLanguage):
    model_types = ("blip",)
    one_frame = True
    tag = "image-to-text"
    parts = {"vision": ("vision_model",), "language": ("text_decoder",)}
    lora_targets = r"text_decoder\..*\.(query|value)"

    def encode(self, loaded: Loaded, sample: Sample, max_length: int) -> Encoded:
        """Return pixels, and the caption after its prompt; see `VisionLanguage`.

        The first id is the decoder's start token, because that is what `generate` starts from
        (transformers/models/blip/modeling_blip_text.py); neither it nor the prompt is learnt.

        Raises:
            Unusable: the prompt leaves no room for an answer, or a text holds a control token.
        """
        import torch

        control.refuse(
            loaded.processor, f"video {sample.video}: its text", sample.prompt, sample.answer
        )
        text = loaded.model.config.text_config
        tokenizer = loaded.processor.tokenizer
        prompt = tokenizer(sample.prompt or "", add_special_tokens=False).input_ids
        said = tokenizer(sample.answer, add_special_tokens=False).input_ids
        ids = [text.bos_token_id, *prompt, *said, text.sep_token_id]
        longest = min(max_length, text.max_position_embeddings)
        if 1 + len(prompt) >= longest:
            raise Unusable(
                f"video {sample.video}: the prompt is {len(prompt)} tokens, the decoder takes "
                f"{text.max_position_embeddings}, train.max_length is {max_length}"
            )
        labels = torch.tensor(ids)[:longest]
        labels[: 1 + len(prompt)] = IGNORED
        tokens = {"input_ids": torch.tensor(ids)[:longest]}
        tokens["attention_mask"] = torch.ones_like(tokens["input_ids"])
        images = loaded.processor.image_processor(list(sample.images), return_tensors="pt")
        vision = {"pixel_values": images["pixel_values"]}
        return Encoded(tokens, labels, vision, cut=len(ids) > longest)

    def collate(self, loaded: Loaded, encoded: Sequence[Encoded], packed: bool) -> Batch:
        """Return pixels (B, C, H, W), ids, mask and labels (B, L).

        An image counts by its patches.
        """
        assert not packed
        tensors = padding.pad(encoded, loaded.model.config.text_config.pad_token_id)
        num_images, _, height, width = tensors["pixel_values"].shape
        patch = loaded.model.config.vision_config.patch_size
        seen = num_images * (1 + (height // patch) * (width // patch))
        num_tokens = seen + int(tensors["attention_mask"].sum())
        return Batch(tensors, padding.num_learnt(tensors["labels"]), num_tokens)

    def logits(
        self, loaded: Loaded, model: Any, batch: Batch
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """See `VisionLanguage`; the last position predicts nothing.

        As transformers/models/blip/modeling_blip_text.py, BlipTextLMHeadModel.forward.
        """
        return model(**batch.inputs).logits[:, :-1], batch.tensors["labels"][:, 1:]

    def loss(self, loaded: Loaded, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the token losses, smoothed as the checkpoint's config says."""
        from spark_trainer.losses.next_token import token_loss

        smoothing = loaded.model.config.text_config.label_smoothing
        return token_loss(*self.logits(loaded, model, batch), smoothing)

    def answers(self, loaded: Loaded, model: Any, sample: Sample, decoding: Decoding) -> list[str]:
        """Return captions of a frame."""
        images = loaded.processor.image_processor(list(sample.images), return_tensors="pt")
        inputs = {"pixel_values": images["pixel_values"]}
        prompt: list[int] = []
        if sample.prompt:
            asked = loaded.processor.tokenizer(sample.prompt, return_tensors="pt")
            prompt = asked.input_ids[0, 1:-1].tolist()
            inputs |= {"input_ids": asked.input_ids, "attention_mask": asked.attention_mask}
        device = next(model.parameters()).device
        inputs = padding.repeated(inputs, decoding.num_answers)
        ids_BL = model.generate(
            **{name: value.to(device) for name, value in inputs.items()}, **decoding.options
        )
        return decoded(loaded, ids_BL[:, 1 + len(prompt) :])
