"""Families that write down what is said in a window of sound.

Shapes: B windows, M mel bands, F frames of 10 ms, S states of the encoder, D numbers of a state,
L tokens, N of them that are learnt, V vocabulary.
"""

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Run, Text
from spark_trainer.data import manifest
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.data.sample import Unusable
from spark_trainer.families.kinds import export, loading, long_form, padding, transcribed
from spark_trainer.families.kinds.batch import Batch, Encoded
from spark_trainer.families.kinds.export import Loading
from spark_trainer.families.kinds.generated import Generated
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.pretrained import Pretrained
from spark_trainer.families.kinds.reading import Reader, Splits
from spark_trainer.metrics.score import FORGETTING
from spark_trainer.speech import files
from spark_trainer.speech.dataset import SpeechDataset
from spark_trainer.speech.formats import names
from spark_trainer.speech.heard import Heard, Plan, Said
from spark_trainer.speech.references import References
from spark_trainer.speech.segments import Segment

if TYPE_CHECKING:
    import torch

STATES = "encoder_states"  # a file's tensor, and a batch's in the place of mel spectrograms
CANDIDATES = 16  # samples of which the largest are looked for
ENGLISH = "en"
LOADING = """\
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

processor = AutoProcessor.from_pretrained("final")
model = AutoModelForSpeechSeq2Seq.from_pretrained("final")"""
LOADING_ADAPTER = f"# Needs PEFT; the base is the one that adapter_config.json names.\n{LOADING}"


class Speech(Pretrained):
    """A family that hears a window of sound, and writes what is said in it."""

    kind = "speech"
    tag = "automatic-speech-recognition"

    @abstractmethod
    def mels(self, loaded: Loaded, heard: Heard, run: Run) -> "torch.Tensor":
        """Return the mel spectrogram (1, M, F) of a window, masked where it is trained on."""

    @abstractmethod
    def states(self, loaded: Loaded, mels_BMF: "torch.Tensor") -> "torch.Tensor":
        """Return what the encoder makes of mel spectrograms (B, S, D)."""

    @abstractmethod
    def row(self, loaded: Loaded, said: Said, run: Run, learns_language: bool) -> Encoded:
        """Return the tokens of a window, without its sound.

        Raises:
            Unusable: there are too many, or the text holds a control token.
        """

    @abstractmethod
    def longest_row(self, loaded: Loaded) -> Encoded:
        """Return a row as long as the decoder takes, with the mel spectrogram of silence."""

    @abstractmethod
    def logits(
        self, loaded: Loaded, model: Any, batch: Batch
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return scores (1, N, V) of the tokens that are learnt, and those tokens (1, N)."""

    @abstractmethod
    def transcripts(
        self, loaded: Loaded, model: Any, heard: Sequence[Heard], run: Run
    ) -> list[str]:
        """Return what a model hears greedily in each window, without times."""

    def samples(self, manifest: Path, root: Path, run: Run, fixed: bool = False) -> SpeechDataset:
        return SpeechDataset(manifest, root, run, references(run), fixed)

    def check_data(self, manifest_path: Path, rejected: Path, run: Run) -> None:
        """See `Kind`: each reference is of one video, and there are words to look for."""
        words(run)
        if given := references(run):
            given.match(manifest.read(manifest_path), manifest.rejected(rejected))

    def encode(self, loaded: Loaded, heard: Heard, run: Run, learns_language: bool) -> Encoded:
        """Return a window as tensors.

        Raises:
            Unusable: as `row`.
        """
        made = self.row(loaded, heard.said, run, learns_language)
        return with_sound(made, input_features=self.mels(loaded, heard, run))

    def collate(self, loaded: Loaded, windows: Sequence[Encoded]) -> Batch:
        """Return windows in one batch: rows filled up on the right, and their sound.

        A window's sound counts as many tokens as the encoder makes states of it.
        """
        tensors = padding.pad(windows, 0)
        sound = len(windows) * loaded.model.config.max_source_positions
        read = sum(len(one.labels) for one in windows)
        return Batch(tensors, padding.num_learnt(tensors["labels"]), sound + read)

    def readers(
        self, loaded: Loaded, splits: Splits, run: Run, device: "torch.device", kept: EncodedFiles
    ) -> tuple[Reader, Reader]:
        """See `Kind`; with one language alone its token is not learnt.

        But beside silence it is: nothing else would be said where silence is told, so that a
        model would hear silence everywhere.
        """
        learns_language = len(splits[0].languages) > 1 or splits[0].num_silent > 0
        given = (self, loaded, run, learns_language)
        of_kept = partial(KeptWindows, files=kept)
        make: Callable[..., Windows] = of_kept if run.states_ahead else Windows
        return make(splits[0], *given), make(splits[1], *given)

    def beside(self, loaded: Loaded, run: Run) -> Reader | None:
        """See `Kind`: the windows of `asr.forgetting`, by its own transcripts."""
        if run.asr.forgetting is None:
            return None
        path = Path(run.asr.forgetting)
        if not path.is_file():
            raise ValueError(f"train.asr.forgetting: no such file: {path}")
        plain = run.model_copy(update={"text": Text()})
        samples = SpeechDataset(path, path.parent, plain, fixed=True)
        for line in manifest.lines(path):
            samples.add(line.entry, line.offset)
        if not len(samples):
            said = "; ".join(map(str, samples.left_out[-1:])) or "it is empty"
            raise ValueError(f"train.asr.forgetting: {path}: no usable video: {said}")
        return Windows(samples, self, loaded, run, learns_language=False)

    def loss(self, loaded: Loaded, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the tokens' losses, in nats."""
        from spark_trainer.losses.next_token import token_loss

        return token_loss(*self.logits(loaded, model, batch))

    def show(
        self, loaded: Loaded, model: Any, samples: Iterable[Heard], run: Run
    ) -> Iterator[Generated]:
        """Yield what the model hears in held-out windows, in the precision that it learns in."""
        import torch

        dtype, left = loading.dtype(run), iter(samples)
        while heard := list(islice(left, run.batch_size)):
            with torch.no_grad(), torch.autocast(model.device.type, dtype, enabled=bool(dtype)):
                texts = self.transcripts(loaded, model, heard, run)
            for one, text in zip(heard, texts, strict=True):
                language = one.said.language or ENGLISH
                yield transcribed.GeneratedTranscript(
                    one.video, one.start, one.said.text, text, language
                )

    def scores(self, shown: list[dict[str, Any]], run: Run) -> dict[str, float]:
        """Return the error rates of what was heard."""
        return transcribed.scores(shown, words(run))

    def measure(
        self, folder: Path, run: Run, readers: Sequence[Reader], device: str
    ) -> long_form.BeforeAndAfter:
        """See `Kind`: whole files, as the project's own transcriber hears them."""
        parts = {
            name: list(reader.samples.recordings(run.max_eval_samples))
            for name, reader in zip(("", FORGETTING), readers, strict=False)
            if isinstance(reader.samples, SpeechDataset)
        }
        base = partial(self._write_base, run=run)
        return long_form.measure(folder, run, parts, words(run), device, base)

    def _write_base(self, folder: Path, run: Run) -> None:
        """Write the weights that a run begins with, as those that it ends with."""
        asr = run.asr.model_copy(update={"export": ("hf", "ct2")})
        whole = run.model_copy(update={"finetune": "full", "asr": asr})
        self.export(folder, whole, self.load(run.model_name, LoadOptions(dtype="auto")))

    def loading(self, folder: Path, run: Run) -> Loading:
        library, lines = "transformers", LOADING
        if export.saves_adapter(run):
            library, lines = "peft", LOADING_ADAPTER
        licence = names.LICENCE if run.model_name in names.OFFLINE else None
        return Loading(library, self.tag, lines, names.at_hub(run.model_name), licence)

    def load_encoders(self, run: Run, device: "torch.device") -> Loaded:
        """See `Kind`: the encoder, in the run's precision."""
        import torch

        loaded = self.load(run.model_name, LoadOptions.of(run, self.mostly_frozen, device.type))
        self.check(loaded, run)
        encoder, dtype = loaded.model.eval().to(device).get_encoder(), loading.dtype(run)
        if dtype:
            encoder.forward = torch.autocast(device.type, dtype)(encoder.forward)
        return loaded

    def encoded_file(self, kept: EncodedFiles, samples: Any, plan: Any, run: Run) -> Path:
        """See `Kind`: the file of what the encoder makes of a window's sound."""
        return kept.sound(str(plan.entry["id"]), samples.wav(plan), plan.start, plan.end)

    def encoded_texts(self, plan: Any, run: Run) -> tuple[str, ...]:
        """See `Kind`: the encoder reads none."""
        return ()


def references(run: Run) -> References | None:
    """Return what a run is told of what is said, beside the manifest."""
    path = run.asr.references
    return References.read(Path(path), "train.asr.references") if path else None


def words(run: Run) -> tuple[str, ...]:
    """Return the words whose recall a run asks for."""
    path = run.asr.words
    return files.words(Path(path), "train.asr.words") if path else ()


def with_sound(row: Encoded, **sound: "torch.Tensor") -> Encoded:
    """Return a window's tokens with what stands for its sound."""
    return Encoded(row.tokens, row.labels, sound, cut=False)


@dataclass(frozen=True)
class Windows(Reader):
    """Reads windows of sound: workers make their mel spectrograms and tokens."""

    samples: SpeechDataset
    family: Speech
    loaded: Loaded
    run: Run
    learns_language: bool

    def read(self, number: int) -> Encoded:
        heard = self.samples[number]
        return self.family.encode(self.loaded, heard, self.run, self.learns_language)

    def collated(self, read: list[Encoded]) -> list[Batch]:
        return [self.family.collate(self.loaded, read)]

    def prove(self) -> None:
        """See `Reader`: a second of silence would do for every sample."""
        import numpy as np

        said = Said((Segment(0.0, 1.0, "a"),), language=self.run.asr.language or ENGLISH)
        silence = Heard("silence", np.zeros(16_000, np.float32), 0.0, said)
        self.collated([self.family.encode(self.loaded, silence, self.run, self.learns_language)])

    def largest(self, run: Run) -> Batch:
        """See `Reader`; sound is as long in every window, so the rows decide.

        Without samples the rows are as long as the decoder takes.
        """
        longest = self.family.longest_row(self.loaded)
        rows = sorted(self._longest_rows(run), key=lambda one: len(one.labels)) or [longest]
        made = [with_sound(one, **self.silence(longest)) for one in rows]
        return self.collated((made * run.batch_size)[-run.batch_size :])[0]

    def silence(self, longest: Encoded) -> "dict[str, torch.Tensor]":
        """Return what stands for the sound of a window without any."""
        return longest.vision

    def _longest_rows(self, run: Run) -> Iterator[Encoded]:
        order = self.samples.lengths().argsort(kind="stable").tolist() if len(self.samples) else []
        for number in order[-max(CANDIDATES, run.batch_size) :]:
            with contextlib.suppress(Unusable):
                yield self._row(self.samples.plan(number))

    def _row(self, plan: Plan) -> Encoded:
        return self.family.row(self.loaded, plan.said, self.run, self.learns_language)


@dataclass(frozen=True)
class KeptWindows(Windows):
    """Reads windows whose sound the encoder heard before the training began."""

    files: EncodedFiles = field(kw_only=True)

    def read(self, number: int) -> Encoded:
        """See `Reader`; no sound is read."""
        plan: Plan = self.samples.plan(number)
        row = self._row(plan)
        path = self.family.encoded_file(self.files, self.samples, plan, self.run)
        kept = self.files.read(path, str(plan.entry["id"]))
        return with_sound(row, **{STATES: kept[STATES][None]})

    def silence(self, longest: Encoded) -> "dict[str, torch.Tensor]":
        import torch

        config = self.loaded.model.config
        return {STATES: torch.zeros(1, config.max_source_positions, config.d_model)}
