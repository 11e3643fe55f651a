"""Families that write text about images and videos.

Shapes: B rows, L tokens, N tokens that are predicted, V vocabulary.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Run
from spark_trainer.data.dataset import VideoFrameDataset
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.data.sample import Sample, Size, Unusable
from spark_trainer.families.kinds import export, loading, padding, rows
from spark_trainer.families.kinds.batch import Batch, Encoded
from spark_trainer.families.kinds.export import Loading
from spark_trainer.families.kinds.generated import Generated, GeneratedText, glimpse
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.pretrained import Pretrained
from spark_trainer.families.kinds.reading import Reader, Splits

if TYPE_CHECKING:
    import torch

CANDIDATES = 16  # samples of which the largest are looked for
UNKNOWN_PX, UNKNOWN_WORDS = 1280, 64  # of samples that nobody has seen yet
GREY_PX = 64  # side of the picture that shows whether a family can encode at all
LOADING = """\
from transformers import AutoModelForImageTextToText, AutoProcessor

processor = AutoProcessor.from_pretrained("final")
model = AutoModelForImageTextToText.from_pretrained("final")"""
# transformers finds the base that an adapter names, where PEFT is installed.
LOADING_ADAPTER = f"# Needs PEFT; the base is the one that adapter_config.json names.\n{LOADING}"


@dataclass(frozen=True)
class Decoding:
    """How answers are decoded.

    Attributes:
        max_new_tokens: their length at most.
        num_answers: how many.
        temperature: 0 takes the likeliest token each time, 1 draws tokens as the model rates them.
    """

    max_new_tokens: int
    num_answers: int = 1
    temperature: float = 0.0

    @property
    def options(self) -> dict[str, Any]:
        """Return the options of upstream's `generate`."""
        options = {"max_new_tokens": self.max_new_tokens, "num_beams": 1}
        if not self.temperature:
            return options | {"do_sample": False}
        drawn = {"temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        return options | {"do_sample": True} | drawn


class VisionLanguage(Pretrained):
    """A family whose samples become tokens where they are decoded, and whose loss is of tokens."""

    kind = "vision_language"

    @abstractmethod
    def encode(self, loaded: Loaded, sample: Sample, max_length: int) -> Encoded:
        """Return one sample as tensors; the answer and its end are learnt, nothing else.

        Args:
            loaded: the model and its processor.
            sample: frames, prompt and answer.
            max_length: tokens at most; a longer answer is cut, an image never.

        Raises:
            Unusable: prompt and images leave no room, or a text holds a control token.
        """

    @abstractmethod
    def collate(self, loaded: Loaded, encoded: Sequence[Encoded], packed: bool) -> Batch:
        """Return padded rows, or one packed row, with everything that upstream's processor made.

        A packed row has positions that start again with every sample, and `packed_lengths`.
        """

    @abstractmethod
    def logits(
        self, loaded: Loaded, model: Any, batch: Batch
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return scores (B, N, V) and the labels (B, N) that they are the scores of."""

    @abstractmethod
    def answers(self, loaded: Loaded, model: Any, sample: Sample, decoding: Decoding) -> list[str]:
        """Return what the model says to the prompt exactly as `encode` tokenises it."""

    def generate(self, loaded: Loaded, model: Any, sample: Sample, max_new_tokens: int) -> str:
        """Return what the model says greedily."""
        [said] = self.answers(loaded, model, sample, Decoding(max_new_tokens))
        return said

    def can_learn(self, loaded: Loaded, sample: Sample, run: Run) -> bool:
        """Tell whether a sample can be learnt from: an answer may spell a control token."""
        try:
            self.encode(loaded, sample, run.max_length)
        except Unusable:
            return False
        return True

    def batches(self, loaded: Loaded, samples: Sequence[Sample], run: Run) -> list[Batch]:
        """Return batches of samples that a method has made.

        Raises:
            Unusable: one can't be learnt from.
        """
        encoded = [self.encode(loaded, sample, run.max_length) for sample in samples]
        return self.collated(loaded, encoded, run.packing, run.packing_length)

    def collated(
        self,
        loaded: Loaded,
        encoded: Sequence[Encoded],
        packed: bool,
        packing_length: int | None = None,
    ) -> list[Batch]:
        """Return batches of samples that go together, packed rows no longer than `packing_length`.

        Args:
            loaded: the model and its processor.
            encoded: the samples.
            packed: whether a batch is one row of all its samples.
            packing_length: tokens of a packed row at most; without it any number.
        """
        groups = padding.groups(encoded)
        if packing_length is None:
            return [self.collate(loaded, group, packed) for group in groups]
        pad_id = loaded.processor.tokenizer.pad_token_id or 0
        made = []
        for row in (row for group in groups for row in rows.dealt_out(group, packing_length)):
            whole = [*row, *rows.fill(row, packing_length, pad_id)]
            made.append(self.collate(loaded, whole, packed)._replace(num_tokens=rows.tokens(row)))
        return made

    def load(self, name: str, options: LoadOptions) -> Loaded:
        return loading.image_to_text(name, options)

    def readers(
        self, loaded: Loaded, splits: Splits, run: Run, device: "torch.device", kept: EncodedFiles
    ) -> tuple[Reader, Reader]:
        training, validation = (
            Texts(samples, self, loaded, run.max_length, run.packing, run.packing_length)
            for samples in splits
        )
        return training, validation

    def load_encoders(self, run: Run, device: "torch.device") -> Loaded:
        """See `Kind`; no such family takes anything in the place of frames."""
        raise ValueError(
            f"train.encode_vision: expected false, {run.model_name} takes nothing but frames"
        )

    def loss(self, loaded: Loaded, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the answers' token losses, in nats."""
        from spark_trainer.losses.next_token import token_loss

        return token_loss(*self.logits(loaded, model, batch))

    def show(
        self, loaded: Loaded, model: Any, samples: Iterable[Sample], run: Run
    ) -> Iterator[Generated]:
        """Yield what the model says about each video, in the precision that it learns in.

        BLIP-2 writes by a part of it, which the training's own precision does not reach.
        """
        import torch

        dtype = loading.dtype(run)
        for sample in samples:
            with torch.no_grad(), torch.autocast(model.device.type, dtype, enabled=bool(dtype)):
                text = self.generate(loaded, model, sample, run.max_new_tokens)
            yield GeneratedText(sample.video, sample.answer, text, glimpse(sample.images))

    def scores(self, shown: list[dict[str, Any]], run: Run) -> dict[str, float]:
        """Return BLEU, ROUGE-L and CIDEr of what was said."""
        from spark_trainer.metrics.text import scores

        if not shown:
            return {}
        return scores([one["generated"] for one in shown], [one["caption"] for one in shown])

    def loading(self, folder: Path, run: Run) -> Loading:
        if export.saves_adapter(run):
            return Loading("peft", self.tag, LOADING_ADAPTER)
        return Loading("transformers", self.tag, LOADING)


def decoded(loaded: Loaded, ids_BL: "torch.Tensor") -> list[str]:
    """Return generated tokens as texts."""
    tokenizer = loaded.processor.tokenizer
    return [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in ids_BL]


@dataclass(frozen=True)
class Texts(Reader):
    """Reads samples of families that write: workers make their tokens and pixels."""

    samples: VideoFrameDataset
    family: VisionLanguage
    loaded: Loaded
    max_length: int
    packed: bool
    packing_length: int | None = None

    def read(self, number: int) -> Encoded:
        return self.family.encode(self.loaded, self.samples[number], self.max_length)

    def prove(self) -> None:
        """See `Reader`: a grey picture would do for every sample."""
        self.collated([self._grey(2, (GREY_PX, GREY_PX), "grey")])

    def _grey(self, num_frames: int, size: Size, answer: str) -> Encoded:
        """Return what is made of grey frames; of one where the family sees no more."""
        sample = grey(1 if self.family.one_frame else num_frames, size, answer=answer)
        return self.family.encode(self.loaded, sample, self.max_length)

    def largest(self, run: Run) -> Batch:
        """See `Reader`; of the samples with the longest texts those with the most tokens.

        Without samples grey ones stand in for them, 16 by 9 and as large as `clip` allows.

        Raises:
            ValueError: none of those samples can be used.
        """
        if len(self.samples):
            order = self.samples.lengths().argsort(kind="stable").tolist()
            asked = order[-max(CANDIDATES, run.batch_size) :]
            reasons: list[str] = []
            read = [one.made for number in asked if (one := self._one(number, reasons))]
            if not read:
                longest = f"none of the {len(asked)} samples with the longest texts can be used"
                raise ValueError(f"{longest}: {reasons[-1]}")
            read.sort(key=lambda encoded: len(encoded.labels))
        else:
            read = [self._grey(*unknown(run))]
        batches = self.collated((read * run.batch_size)[-run.batch_size :])
        return max(batches, key=lambda batch: batch.num_tokens)

    def collated(self, read: list[Encoded]) -> list[Batch]:
        return self.family.collated(self.loaded, read, self.packed, self.packing_length)


def grey(num_frames: int, size: Size, answer: str, prompt: str | None = None) -> Sample:
    """Return a sample of grey frames, a second apart."""
    from PIL import Image

    frames = (Image.new("RGB", size),) * num_frames
    return Sample("grey", frames, tuple(map(float, range(num_frames))), prompt, answer)


def unknown(run: Run) -> tuple[int, Size, str]:
    """Return frames, size and text of a sample that nobody has seen yet."""
    width = run.clip.max_side_px or UNKNOWN_PX
    return run.clip.lengths[0], (width, width * 9 // 16), "grey " * UNKNOWN_WORDS


class Samples(Texts):
    """Reads samples that can be learnt from as they are: a method makes batches of them."""

    def read(self, number: int) -> Any:
        """See `Reader`."""
        super().read(number)
        return self.samples[number]

    def collated(self, read: list[Any]) -> list[Batch]:
        return [Batch({"samples": read}, len(read))]
