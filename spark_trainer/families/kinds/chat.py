"""Families whose checkpoints bring a chat template: conversations about images and videos.

A sample is one exchange in the checkpoint's own chat template. Its prompt is tokenised exactly as
for generation, with the images in it; the answer's tokens follow, and only they are learnt.

Shapes: B rows, L tokens, N tokens that are predicted, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from spark_trainer.config import Run
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds import exchanges, loading, padding, prompts, towers
from spark_trainer.families.kinds.batch import IGNORED, Batch, Encoded
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.reading import Reader, Splits
from spark_trainer.families.kinds.vision_language import Decoding, VisionLanguage, decoded

if TYPE_CHECKING:
    import torch

ANSWER = "grey"  # in the place of any answer, where only the frames count


class ChatModel(VisionLanguage):
    """A family that is asked and answers; a row may hold several exchanges.

    Attributes:
        tells_lengths: the parts whose attention upstream tells the lengths of its segments, by the
            names of their configurations.
    """

    packs = True
    tells_lengths: ClassVar[tuple[str, ...]] = ("text_config",)

    def load(self, name: str, options: LoadOptions) -> Loaded:
        loaded = super().load(name, options)
        if options.attention == "auto" and options.device == "cuda":
            from spark_trainer.families.kinds.attention import use_varlen

            use_varlen(loaded.model, self.tells_lengths, options.precision)
        return loaded

    def layers_to_compile(self, loaded: Loaded) -> "list[torch.nn.Module]":
        """See `Kind`; where a call is made for each sample, a graph holds the lengths of one row.

        Raises:
            ValueError: a part of the model does not attend by VARLEN.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        from spark_trainer.families.kinds.attention import VARLEN

        parts = [getattr(loaded.model.config, part) for part in self.tells_lengths]
        if any(part._attn_implementation != VARLEN for part in parts):
            raise ValueError(
                "train.compile: expected true or false, layers compile once for all lengths only "
                "where one call attends to all samples (attention: auto on a GPU in 16 bits)"
            )
        return [
            layer
            for layer in loaded.model.modules()
            if isinstance(layer, GradientCheckpointingLayer)
            and any(getattr(module, "config", None) in parts for module in layer.modules())
        ]

    def sees_video(self, loaded: Loaded) -> bool:
        """Tell whether a video goes in as such; else its frames do, as images."""
        return True

    def adapted(self, sample: Sample) -> Sample:
        """Return a sample as the family's processor can take it."""
        return sample

    def positions(self, loaded: Loaded, encoded: Sequence[Encoded]) -> "torch.Tensor":
        """Return the positions (1, L) of a packed row, which start again with every sample."""
        import torch

        return torch.cat([torch.arange(len(one.labels)) for one in encoded])[None]

    def worked_out(self, loaded: Loaded, tensors: "dict[str, Any]") -> "dict[str, Any]":
        """Return inputs that upstream would work out of others as it computes.

        That the host then reads them makes it wait for the device.
        """
        return {}

    def encode(self, loaded: Loaded, sample: Sample, max_length: int) -> Encoded:
        """Return one exchange as tokens; see `VisionLanguage`.

        Raises:
            Unusable: prompt and images alone fill `max_length`, or a text holds a control token.
            ValueError: the chat template does not repeat the answer.
        """
        sample = self.adapted(sample)
        exchanges.refuse(loaded, sample.video, sample.prompt, sample.answer)
        inputs, rest = prompts.asked(loaded.processor, sample, self.sees_video(loaded))
        return exchanges.exchange(loaded, sample, inputs, rest, max_length)

    def question(self, loaded: Loaded, sample: Sample) -> Encoded:
        """Return a question without an answer, as `encode` tokenises it; nothing of it is learnt.

        Raises:
            Unusable: its text holds a control token.
        """
        exchanges.refuse(loaded, sample.video, sample.prompt)
        # What the answer will be is not asked, nor what the template makes of it.
        asked = replace(self.adapted(sample), answer=ANSWER)
        return exchanges.question(prompts.ask(loaded.processor, asked, self.sees_video(loaded)))

    def answer_positions(self, loaded: Loaded, questions: Sequence[Encoded]) -> "torch.Tensor":
        """Return the position (R, 1) of the first token behind each question."""
        import torch

        return torch.tensor([[len(one.labels)] for one in questions])

    def encode_kept(
        self, loaded: Loaded, sample: Sample, kept: "dict[str, torch.Tensor]", max_length: int
    ) -> Encoded:
        """Return one exchange as tokens, without a look at its frames.

        Args:
            loaded: the model and its processor.
            sample: its texts.
            kept: what `encode_sample` made of its frames.
            max_length: as in `encode`.

        Raises:
            Unusable: as in `encode`.
            ValueError: as in `encode`.
        """
        exchanges.refuse(loaded, sample.video, sample.prompt, sample.answer)
        as_video, (vision, written) = self.sees_video(loaded), towers.taken_apart(kept)
        prompt, rest = prompts.rendered(loaded.processor, sample, as_video, len(written))
        tokens = prompts.expanded(loaded.processor, prompt, written, as_video)
        return exchanges.exchange(loaded, sample, tokens | vision, rest, max_length)

    def load_encoders(self, run: Run, device: "torch.device") -> Loaded:
        """See `Kind`: the vision tower and the projector."""
        options = LoadOptions.of(run, self.mostly_frozen, device.type)
        loaded = self.load(run.model_name, options)
        self.let_learn(loaded.model, run)
        if options.four_bit:
            loading.keep_packing(loaded.model)
        towers.check(self, loaded.model)
        return towers.alone(loaded, run, device)

    def encode_sample(self, loaded: Loaded, sample: Sample) -> "dict[str, torch.Tensor]":
        """See `Kind`: what the vision tower and the projector make of the frames."""
        shown = replace(self.adapted(sample), prompt=None, answer=ANSWER)
        return towers.kept(loaded, shown, self.sees_video(loaded))

    def readers(
        self, loaded: Loaded, splits: Splits, run: Run, device: "torch.device", kept: EncodedFiles
    ) -> tuple[Reader, Reader]:
        if not run.encode_vision:
            return super().readers(loaded, splits, run, device, kept)
        towers.check(self, loaded.model)
        texts = (self, loaded, run.max_length, run.packing, run.packing_length)
        training, validation = (towers.KeptTexts(one, *texts, files=kept) for one in splits)
        return training, validation

    def collate(self, loaded: Loaded, encoded: Sequence[Encoded], packed: bool) -> Batch:
        """Return padded rows, or one packed row, and the positions worth a prediction."""
        if packed:
            tensors = self._packed(loaded, encoded)
            num_tokens = tensors["input_ids"].numel()
        else:
            tensors = self._padded(loaded, encoded)
            num_tokens = int(tensors["attention_mask"].sum())
        labels = tensors["labels"]
        tensors |= {"logits_to_keep": _predicting(labels)} | self.worked_out(loaded, tensors)
        return Batch(tensors, padding.num_learnt(labels), num_tokens)

    def _padded(self, loaded: Loaded, encoded: Sequence[Encoded]) -> dict[str, Any]:
        """Return a row for each sample; what fills it up is a segment of its own."""
        tensors = padding.pad(encoded, loaded.processor.tokenizer.pad_token_id or 0)
        longest = tensors["labels"].shape[1]
        lengths = [len(one.labels) for one in encoded]
        parts = (part for length in lengths for part in (length, longest - length) if part)
        return tensors | padding.boundaries([*parts])

    def _packed(self, loaded: Loaded, encoded: Sequence[Encoded]) -> dict[str, Any]:
        """Return all samples one after the other in one row, each attending only to itself."""
        import torch

        tensors: dict[str, Any] = {
            name: torch.cat([one.tokens[name] for one in encoded])[None]
            for name in encoded[0].tokens.keys() - {"attention_mask"}
        }
        tensors["labels"] = torch.cat([one.labels for one in encoded])[None]
        tensors["position_ids"] = self.positions(loaded, encoded)
        lengths = tensors["packed_lengths"] = [len(one.labels) for one in encoded]
        tensors |= padding.boundaries(lengths)
        return tensors | padding.join([one.vision for one in encoded if one.vision])

    def logits(
        self, loaded: Loaded, model: Any, batch: Batch
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """See `VisionLanguage`; scores are made only where one is needed."""
        labels_BN = batch.tensors["labels"][:, batch.tensors["logits_to_keep"] + 1]
        return model(**towers.fed(batch.inputs), use_cache=False).logits, labels_BN

    def answers(self, loaded: Loaded, model: Any, sample: Sample, decoding: Decoding) -> list[str]:
        asked = prompts.ask(loaded.processor, self.adapted(sample), self.sees_video(loaded))
        inputs = padding.repeated(asked, decoding.num_answers)
        weight = next(model.parameters())
        moved = {name: value.to(weight.device) for name, value in inputs.items()}
        ids_BL = model.generate(**moved, **decoding.options, use_cache=True)
        return decoded(loaded, ids_BL[:, inputs["input_ids"].shape[1] :])


def _predicting(labels_BL: "torch.Tensor") -> "torch.Tensor":
    """Return the positions (N) whose next token is learnt in any row."""
    return (labels_BL[:, 1:] != IGNORED).any(0).nonzero().squeeze(1)
