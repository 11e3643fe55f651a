"""Whisper's loss, rows, adapters, masks and exports, on a tiny random checkpoint."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSpeechSeq2Seq, WhisperForConditionalGeneration

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.errors import MachineError
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.speech import with_sound
from spark_trainer.families.whisper import Whisper
from spark_trainer.metrics.objective import HELD_OUT_LOSS
from spark_trainer.runs.summary import Summary
from spark_trainer.speech import formats, sound
from spark_trainer.speech.heard import Heard, Said
from spark_trainer.speech.segments import Segment
from spark_trainer.train import final
from tests import cards, mounted

from . import tiny

RUN = Run(model_type="asr")
MASKED = Run(model_type="asr", asr={"spec_augment": {"mask_time_prob": 0.2}})
ASSETS = Path(__file__).parents[1] / "assets"
LIBRIVOX = (
    "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his "
    "power to do for them."
)
TEXTS = ("a dog", "two lamps and a poodle", "it rains")
PREVIOUS = (Segment(0.0, 1.0, "before"),)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def family(checkpoint: Path) -> Whisper:
    found = families.find(str(checkpoint))
    assert isinstance(found, Whisper)
    return found


@pytest.fixture
def loaded(family: Whisper, checkpoint: Path) -> Loaded:
    return family.load(str(checkpoint), LoadOptions())


def heard(number: int, seed: int | None = None) -> Heard:
    """A window of noise, with times, text before, or neither."""
    noise = np.random.default_rng(number).normal(0, 0.1, 16_000 * (number + 1))
    said = Said(
        (Segment(0.0, 0.5, TEXTS[number]),),
        previous=PREVIOUS if number == 1 else (),
        language="en",
        with_times=number == 2,
    )
    return Heard(f"{number:064x}", noise.astype(np.float32), 0.0, said, seed)


def batch_of(family: Whisper, loaded: Loaded, *numbers: int) -> Batch:
    made = [family.encode(loaded, heard(number), RUN, False) for number in numbers]
    return family.collate(loaded, made)


def test_the_loss_is_upstreams_own(family: Whisper, loaded: Loaded) -> None:
    """On rows put together by hand: the shift, the padding, and what is not learnt."""
    loaded.model.eval()
    batch = batch_of(family, loaded, 0, 1, 2)
    words = loaded.processor.tokenizer
    rows = [
        "<|startoftranscript|><|en|><|transcribe|><|notimestamps|> a dog<|endoftext|>",
        "<|startofprev|> before<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"
        " two lamps and a poodle<|endoftext|>",
        "<|startoftranscript|><|en|><|transcribe|><|0.00|> it rains<|0.50|><|endoftext|>",
    ]
    total = 0.0
    for number, row in enumerate(rows):
        ids = torch.tensor([words(row, add_special_tokens=False).input_ids])
        labels = ids[:, 1:].clone()
        start = row.split("<|transcribe|>")[0] + "<|transcribe|>"
        labels[:, : len(words(start, add_special_tokens=False).input_ids) - 1] = -100
        mels = loaded.processor.feature_extractor(
            heard(number).samples, sampling_rate=16_000, return_tensors="pt"
        )
        one = loaded.model(**mels, decoder_input_ids=ids[:, :-1], labels=labels)
        total += one.loss.item() * int((labels != -100).sum())
    ours = family.loss(loaded, loaded.model, batch) / batch.num_targets
    assert ours.item() == pytest.approx(total / batch.num_targets, abs=1e-6)
    upstream = loaded.model(**batch.tensors).loss
    torch.testing.assert_close(ours, upstream, atol=1e-6, rtol=0)


def test_only_what_is_learnt_is_scored(family: Whisper, loaded: Loaded) -> None:
    """Outside of the loss the model scores every position, as upstream's."""
    loaded.model.eval()
    batch = batch_of(family, loaded, 0, 1, 2)
    scores, labels = family.logits(loaded, loaded.model, batch)
    everywhere = logits(loaded.model, batch)
    learnt = batch.tensors["labels"] != -100
    assert labels.tolist() == [batch.tensors["labels"][learnt].tolist()]
    assert everywhere.shape[:2] == learnt.shape
    torch.testing.assert_close(scores[0], everywhere[learnt])


def test_several_languages_are_learnt_to_be_told_apart(family: Whisper, loaded: Loaded) -> None:
    masked, learnt = (family.encode(loaded, heard(0), RUN, told) for told in (False, True))
    tokenizer = loaded.processor.tokenizer
    added = learnt.labels[masked.labels != learnt.labels]
    assert tokenizer.convert_ids_to_tokens(added.tolist()) == ["<|en|>", "<|transcribe|>"]


def test_gradients_are_where_the_run_wants_them(family: Whisper, loaded: Loaded) -> None:
    family.freeze(loaded.model, Run(model_type="asr", freeze=("encoder",)))
    family.loss(loaded, loaded.model.train(), batch_of(family, loaded, 0, 1, 2)).backward()
    for name, parameter in loaded.model.named_parameters():
        assert parameter.requires_grad == (family.part(name) == "decoder"), name
        assert (parameter.grad is not None) == parameter.requires_grad, name
    family.freeze(loaded.model, RUN)
    still = {name for name, one in loaded.model.named_parameters() if not one.requires_grad}
    assert still == {"model.encoder.embed_positions.weight"}


def test_places_are_looked_up_once_for_all_rows(family: Whisper, loaded: Loaded) -> None:
    """For each row, two threads would sum a place's gradient in another order each time."""
    batch, places = batch_of(family, loaded, 0, 1, 2), list[list[list[int]]]()

    def note(_: Any, __: Any, given: dict[str, torch.Tensor]) -> None:
        places.append(given["position_ids"].tolist())

    loaded.model.model.decoder.embed_positions.register_forward_pre_hook(note, with_kwargs=True)
    family.loss(loaded, loaded.model, batch)
    assert places == [[[*range(batch.tensors["labels"].shape[1])]]]


def test_weights_that_can_not_be_read_name_the_setting(family: Whisper, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"^train\.model_name: .*tiny\.pt: no PyTorch checkpoint"):
        family.load(str(tmp_path / "tiny.pt"), LoadOptions())


def test_masks_follow_the_sample_alone(family: Whisper, loaded: Loaded) -> None:
    """Upstream's formula; numpy's global state, which it draws from, is what it was."""
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    one, again, other, held_out = (
        family.mels(loaded, heard(0, seed), MASKED) for seed in (1, 1, 2, None)
    )
    assert np.random.rand() == expected
    assert one.equal(again)
    assert not one.equal(other)
    assert held_out.equal(family.mels(loaded, heard(0, 1), RUN))
    frames = (one == 0).all(dim=1).float().mean()
    assert 0.1 < frames <= 0.2
    assert one[one != 0].equal(held_out[one != 0])


def saved(folder: Path, run: Run, family: Whisper, loaded: Loaded) -> None:
    lineage = {"run": "r", "manifest_sha256": "", "spark_trainer": "", "code": ""}
    summary = Summary(steps=1, device="cpu", objective=HELD_OUT_LOSS)
    final.write(folder, run, family, loaded, lineage, lambda _: summary)


@pytest.mark.parametrize("size", ["8m", "24m"], ids=["for transformers", "for openai-whisper"])
def test_a_full_disk_is_the_machine_s_trouble(
    family: Whisper, loaded: Loaded, tmp_path: Path, size: str
) -> None:
    """Those who write weights tell it by words alone."""
    with mounted.small(tmp_path / "disk", size) as disk:
        with pytest.raises((OSError, MachineError), match=r"disk/.*No space left on device"):
            saved(disk.folder / "final", RUN, family, loaded)
        assert not list(disk.folder.iterdir())


def logits(model: Any, batch: Batch) -> torch.Tensor:
    return model.eval()(**batch.inputs).logits.detach()


def overfit(family: Whisper, loaded: Loaded, batch: Batch, steps: int) -> float:
    """The loss of the last of so many updates."""
    learning = [one for one in loaded.model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=3e-3)
    for _ in range(steps):
        loss = family.loss(loaded, loaded.model, batch) / batch.num_targets
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_overfits_and_writes_what_is_said(family: Whisper, loaded: Loaded) -> None:
    family.freeze(loaded.model, Run(model_type="asr", freeze=("encoder",)))
    spoken = heard(0)
    silent = Heard("silent", np.zeros(16_000, np.float32), 0.0, Said((), language="en"))
    made = [
        with_sound(
            family.row(loaded, one.said, RUN, learns_language=True),
            encoder_states=family.encode_sample(loaded, one)["encoder_states"][None],
        )
        for one in (spoken, silent)
    ]
    assert overfit(family, loaded, family.collate(loaded, made), 250) < 0.05
    loaded.model.eval()
    with torch.no_grad():
        said = family.transcripts(loaded, loaded.model, [spoken, silent], RUN)
    assert said == [TEXTS[0], ""]


def test_real_weights_hear_what_is_said_and_nothing_in_silence() -> None:
    """Of the installation's own English-only model; the loss of what is said is small."""
    name = "offline-tiny.en"
    family = families.find(name)
    assert isinstance(family, Whisper)
    loaded = family.load(name, LoadOptions())
    loaded.model.eval()
    path = ASSETS / "librivox-0870.wav"
    said = Said((Segment(0.0, sound.duration(path), LIBRIVOX),), language="en")
    spoken = Heard("spoken", sound.read(path, 0.0, sound.duration(path)), 0.0, said)
    silent = Heard("silent", np.zeros(160_000, np.float32), 0.0, Said((), language="en"))
    with torch.no_grad():
        texts = family.transcripts(loaded, loaded.model, [spoken, silent], RUN)
        batch = family.collate(loaded, [family.encode(loaded, spoken, RUN, False)])
        loss = family.loss(loaded, loaded.model, batch) / batch.num_targets
    assert texts == [LIBRIVOX, ""]
    assert loss < 0.5


@pytest.mark.parametrize("freeze", [None, ["encoder"]], ids=["everywhere", "decoder"])
def test_adapters_learn_alone_and_merge(
    family: Whisper, loaded: Loaded, checkpoint: Path, tmp_path: Path, freeze: list[str] | None
) -> None:
    ways = ["hf", "ct2", "openai"]
    asked = {"finetune": "lora", "lora": {"rank": 4}, "freeze": freeze, "asr": {"export": ways}}
    run = Run(model_name=str(checkpoint), model_type="asr", **asked)
    before = copy.deepcopy(loaded.model.state_dict())
    family.let_learn(loaded.model, run)
    learning = [name for name, one in loaded.model.named_parameters() if one.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)
    assert any("encoder.layers" in name for name in learning) == (freeze is None)
    batch = batch_of(family, loaded, 0, 2)
    first = overfit(family, loaded, batch, 1)
    assert overfit(family, loaded, batch, 5) < first
    after = {name.replace("base_layer.", ""): v for name, v in loaded.model.state_dict().items()}
    assert all(after[name].equal(value) for name, value in before.items())
    unmerged = logits(loaded.model, batch)
    saved(tmp_path / "final", run, family, loaded)
    merged = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "final")
    torch.testing.assert_close(logits(merged, batch), unmerged, atol=1e-4, rtol=1e-4)
    for place in ("ct2", "openai.pt"):
        other = formats.read(str(tmp_path / "final" / place)).tensors
        assert all(merged.get_parameter(name).equal(tensor) for name, tensor in other.items())
    saved(tmp_path / "adapter", run.model_copy(update={"save": "adapter"}), family, loaded)
    base = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert base["base_model_name_or_path"] == str(checkpoint)
    adapted = cards.loaded(tmp_path / "adapter")["model"]
    torch.testing.assert_close(logits(adapted, batch), unmerged, atol=1e-4, rtol=1e-4)


def test_what_is_saved_loads_upstream(
    family: Whisper, loaded: Loaded, checkpoint: Path, tmp_path: Path
) -> None:
    run = Run(model_name=str(checkpoint), model_type="asr", asr={"export": ["hf"]})
    saved(tmp_path / "final", run, family, loaded)
    told = {"library_name": "transformers", "pipeline_tag": "automatic-speech-recognition"}
    assert cards.head(tmp_path / "final", checkpoint) == told | {"tags": ["spark-trainer"]}
    upstream = cards.loaded(tmp_path / "final")["model"]
    assert isinstance(upstream, WhisperForConditionalGeneration)
    assert (tmp_path / "final" / "preprocessor_config.json").is_file()
    batch = batch_of(family, loaded, 0, 1)
    torch.testing.assert_close(logits(upstream, batch), logits(loaded.model, batch))


def test_gradient_checkpointing_gives_the_same_gradients(family: Whisper, checkpoint: Path) -> None:
    found = []
    for checkpointing in (False, True):
        loaded = family.load(str(checkpoint), LoadOptions())
        family.freeze(loaded.model, RUN)
        if checkpointing:
            family.checkpoint_gradients(loaded.model)
        family.loss(loaded, loaded.model.train(), batch_of(family, loaded, 0, 1)).backward()
        named = loaded.model.named_parameters()
        found.append({name: one.grad for name, one in named if one.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-5, rtol=1e-4)


def test_128_mels_come_from_the_weights(family: Whisper, tmp_path: Path) -> None:
    loaded = family.load(str(tiny.whisper(tmp_path, mels=128)), LoadOptions())
    assert batch_of(family, loaded, 0).tensors["input_features"].shape == (1, 128, 3000)


@pytest.mark.parametrize(
    ("asr", "size", "message"),
    [
        ({"language": "de"}, 51864, r"asr\.language: .* is English-only \(got 'de'\)"),
        ({"language": "yue"}, 51865, r"asr\.language: .* doesn't know it"),
        ({"task": "translate"}, 51864, r"asr\.task: expected transcribe, .* never learnt"),
    ],
)
def test_what_a_model_can_not_learn_is_refused(
    family: Whisper, loaded: Loaded, asr: dict[str, Any], size: int, message: str
) -> None:
    loaded.model.config.vocab_size = size
    with pytest.raises(ValueError, match=message):
        family.check(loaded, Run(model_type="asr", asr=asr))


def test_an_encoder_that_drops_out_is_not_kept(family: Whisper, loaded: Loaded) -> None:
    loaded.model.config.dropout = 0.1
    run = Run(model_type="asr", freeze=("encoder",))
    with pytest.raises(ValueError, match=r"encode: expected each_step, .* dropout above 0"):
        family.check(loaded, run)
    family.check(loaded, run.model_copy(update={"encode": "each_step"}))
