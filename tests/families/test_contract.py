"""What every family keeps, on tiny random checkpoints that upstream's classes made."""

import copy
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families.kinds import padding
from spark_trainer.families.kinds.attention import VARLEN
from spark_trainer.families.kinds.batch import IGNORED, Batch
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.vision_language import Decoding, VisionLanguage
from spark_trainer.metrics.objective import HELD_OUT_LOSS
from spark_trainer.runs.summary import Summary
from spark_trainer.train import final, setup
from tests import cards

from . import tiny, varlen_on_cpu  # noqa: F401  # the kernel of a GPU runs here too
from .conftest import clip
from .golden import VARIANTS

LONG = 4096
TAGS = dict.fromkeys(VARIANTS, "image-text-to-text") | {"blip": "image-to-text"}
TAGS |= dict.fromkeys(("internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"), "video-text-to-text")


@pytest.fixture(scope="module", params=VARIANTS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return getattr(tiny, request.param)(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def family(checkpoint: Path) -> VisionLanguage:
    return families.find(str(checkpoint))


@pytest.fixture
def loaded(family: VisionLanguage, checkpoint: Path) -> Loaded:
    return family.load(str(checkpoint), LoadOptions())


@pytest.fixture
def samples(family: VisionLanguage, clips: list[Sample]) -> list[Sample]:
    """The clips as the family sees them."""
    if not family.one_frame:
        return clips
    return [replace(clip, images=clip.images[:1], times=clip.times[:1]) for clip in clips]


def batch_of(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample], packed: bool = False
) -> Batch:
    encoded = [family.encode(loaded, sample, LONG) for sample in samples]
    return family.collate(loaded, encoded, packed)


def test_loss_is_upstreams_own(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample]
) -> None:
    loaded.model.eval()
    batch = batch_of(family, loaded, samples[:3])
    ours = family.loss(loaded, loaded.model, batch) / batch.num_targets
    one = family.encode(loaded, samples[0], LONG)
    processed = {"labels", *one.tokens, *one.vision}  # the rest it works out for itself
    upstream = {name: value for name, value in batch.tensors.items() if name in processed}
    torch.testing.assert_close(ours, loaded.model(**upstream).loss, atol=1e-5, rtol=0)


def test_a_prompt_without_room_for_an_answer_is_unusable(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample]
) -> None:
    asked = replace(samples[0], prompt="what is this? " * 20)
    with pytest.raises(Unusable, match=r"train\.max_length is 16"):
        family.encode(loaded, asked, 16)


def test_only_answer_and_end_are_learnt(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample]
) -> None:
    tokenizer = loaded.processor.tokenizer
    for sample in samples:
        asked = replace(sample, prompt="what is this?")
        encoded = family.encode(loaded, asked, LONG)
        learnt = encoded.labels[encoded.labels != IGNORED]
        said = tokenizer.decode(learnt, skip_special_tokens=True).strip()
        assert said.replace(" ", "") == sample.answer.replace(" ", "")
        ends = loaded.model.generation_config.eos_token_id
        stops = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id}
        assert int(learnt[-1]) in stops | {tokenizer.sep_token_id}
        assert not encoded.cut


def test_a_long_answer_is_cut_and_the_images_never(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample]
) -> None:
    short = family.encode(loaded, samples[0], LONG)
    room = len(short.tokens["input_ids"]) + 8
    endless = replace(samples[0], answer="dog " * 12_500)
    encoded = family.encode(loaded, endless, room)
    assert encoded.cut
    assert len(encoded.labels) <= room
    vision = {name: value.shape for name, value in short.vision.items()}
    assert {name: value.shape for name, value in encoded.vision.items()} == vision
    start = short.labels != IGNORED
    asked = short.tokens["input_ids"][: int(start.nonzero()[0])] if len(start) > 1 else []
    assert encoded.tokens["input_ids"][: len(asked)].tolist() == list(asked)


def test_padding_changes_nothing(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample]
) -> None:
    loaded.model.eval()
    together = family.loss(loaded, loaded.model, batch_of(family, loaded, samples))
    alone = [family.loss(loaded, loaded.model, batch_of(family, loaded, [s])) for s in samples]
    torch.testing.assert_close(together, torch.stack(alone).sum(), atol=1e-3, rtol=1e-5)


def test_clips_of_any_shape_share_a_batch(family: VisionLanguage, loaded: Loaded) -> None:
    """Other sides give other numbers of patches or tiles, and other numbers of frames too."""
    loaded.model.eval()
    frames = (1, 1, 1) if family.one_frame else (4, 2, 3)
    shapes = zip(((80, 60), (200, 50), (40, 120)), frames, strict=True)
    mixed = [clip(i, "a dog", frames=n, size=size) for i, (size, n) in enumerate(shapes)]
    encoded = [family.encode(loaded, sample, LONG) for sample in mixed]
    alone = [family.loss(loaded, loaded.model, family.collate(loaded, [e], False)) for e in encoded]
    together = [
        family.loss(loaded, loaded.model, family.collate(loaded, group, False))
        for group in padding.groups(encoded)
    ]
    torch.testing.assert_close(sum(together), sum(alone), atol=1e-3, rtol=1e-5)


def test_packed_is_the_mean_of_unpacked(
    family: VisionLanguage, checkpoint: Path, samples: list[Sample]
) -> None:
    if not family.packs:
        with pytest.raises(ValueError, match=r"train\.packing: expected false"):
            setup.model(Run(model_name=str(checkpoint), packing=True), family)
        return
    assert isinstance(family, ChatModel)
    loaded = family.load(str(checkpoint), LoadOptions())
    longest = max(len(family.encode(loaded, sample, LONG).labels) for sample in samples)
    rows = ((False, None), (True, None), (True, 2 * longest + longest // 2))
    results = []
    for (packed, length), varlen in product(rows, (False, True)):
        loaded = family.load(str(checkpoint), LoadOptions(packed=packed))
        family.freeze(loaded.model, Run(freeze=()))
        if varlen:
            loaded.model.set_attn_implementation(dict.fromkeys(family.tells_lengths, VARLEN))
        encoded = [family.encode(loaded, sample, LONG) for sample in samples]
        batches = family.collated(loaded, encoded, packed, length)
        assert all(packed == ("packed_lengths" in batch.tensors) for batch in batches)
        targets = sum(batch.num_targets for batch in batches)
        losses = [family.loss(loaded, loaded.model, batch) / targets for batch in batches]
        sum(losses).backward()
        gradients = {n: p.grad for n, p in loaded.model.named_parameters() if p.grad is not None}
        tokens = sum(batch.num_tokens for batch in batches)
        results.append((sum(losses).detach(), tokens, gradients))
    assert len(losses) > 2
    (padded, tokens, one), *others = results
    for other_loss, other_tokens, other in others:
        torch.testing.assert_close(padded, other_loss, atol=1e-5, rtol=0)
        assert other_tokens == tokens
        assert one.keys() == other.keys()
        for name, gradient in one.items():
            torch.testing.assert_close(gradient, other[name], atol=1e-5, rtol=1e-3, msg=name)


def test_gradients_are_where_they_should_be(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample]
) -> None:
    family.freeze(loaded.model, Run())
    loaded.model.train()
    batch = batch_of(family, loaded, samples[:2])
    family.loss(loaded, loaded.model, batch).backward()
    for name, parameter in loaded.model.named_parameters():
        assert parameter.requires_grad == (family.part(name) not in family.frozen), name
        assert parameter.requires_grad or parameter.grad is None, name
    trained = [(n, p) for n, p in loaded.model.named_parameters() if p.requires_grad]
    idle = [n for n, p in trained if p.grad is None or not p.grad.abs().sum()]
    # A bias in front of a softmax over keys cancels out of it.
    assert all(any(word in name for word in IDLE) for name in idle), idle


IDLE = ("key.bias", "qkv.bias", "k_proj.bias")


def test_freezing_follows_the_run(family: VisionLanguage, loaded: Loaded) -> None:
    parts = list(family.parts)
    family.freeze(loaded.model, Run(freeze=tuple(parts[:-1])))
    left = {family.part(n) for n, p in loaded.model.named_parameters() if p.requires_grad}
    assert left == {parts[-1]}
    with pytest.raises(ValueError, match=r"train\.freeze: no part 'ears'; expected some of: "):
        family.freeze(loaded.model, Run(freeze=("ears",)))
    with pytest.raises(ValueError, match=r"train\.freeze: every part"):
        family.freeze(loaded.model, Run(freeze=tuple(parts)))


def overfit(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample], steps: int = 200
) -> float:
    """The loss after so many updates, without dropout, which asks for more of them."""
    trainable = [p for p in loaded.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=3e-3)
    batch = batch_of(family, loaded, samples)
    loaded.model.eval()
    for _ in range(steps):
        loss = family.loss(loaded, loaded.model, batch) / batch.num_targets
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        if loss < 0.01:
            break
    return float(loss)


def test_overfits_and_says_the_answers(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample]
) -> None:
    family.freeze(loaded.model, Run(freeze=()))
    assert overfit(family, loaded, samples) < 0.05
    loaded.model.eval()
    said = [family.generate(loaded, loaded.model, sample, 40) for sample in samples]
    plain = [text.replace(" ", "") for text in said]
    assert plain == [sample.answer.replace(" ", "") for sample in samples]


def test_answers_are_drawn_as_the_model_rates_them(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample]
) -> None:
    """Cold, each of them is the greedy one, whatever is in the same batch; warm, they differ."""
    loaded.model.eval()
    for sample in samples[:3]:
        greedy = family.generate(loaded, loaded.model, sample, 8)
        cold = family.answers(loaded, loaded.model, sample, Decoding(8, 3, 1e-6))
        assert cold == [greedy] * 3
        warm = family.answers(loaded, loaded.model, sample, Decoding(8, 3, 1.0))
        assert len({*warm}) > 1


def saved(folder: Path, run: Run, family: VisionLanguage, loaded: Loaded) -> Any:
    lineage = {"run": "r", "manifest_sha256": "", "spark_trainer": "", "code": ""}
    summary = Summary(steps=1, device="cpu", objective=HELD_OUT_LOSS)
    final.write(folder, run, family, loaded, lineage, lambda _: summary)
    assert not list(folder.glob("*.bin"))
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "read by whom they are"
    assert AutoProcessor.from_pretrained(folder)


def logits(model: Any, batch: Batch) -> torch.Tensor:
    model.eval()
    inputs = {name: value for name, value in batch.tensors.items() if name != "logits_to_keep"}
    return model(**inputs).logits.detach()


def test_what_is_saved_loads_upstream(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample], checkpoint: Path, tmp_path: Path
) -> None:
    saved(tmp_path / "final", Run(model_name=str(checkpoint)), family, loaded)
    told = {"library_name": "transformers", "pipeline_tag": TAGS[checkpoint.name[:-1]]}
    assert cards.head(tmp_path / "final", checkpoint) == told | {"tags": ["spark-trainer"]}
    upstream = cards.loaded(tmp_path / "final")["model"]
    batch = batch_of(family, loaded, samples[:2])
    torch.testing.assert_close(logits(upstream, batch), logits(loaded.model, batch))


def test_low_rank_adapters_train_alone_and_merge(
    family: VisionLanguage, loaded: Loaded, samples: list[Sample], checkpoint: Path, tmp_path: Path
) -> None:
    run = Run(model_name=str(checkpoint), finetune="lora", lora={"rank": 4})
    before = copy.deepcopy(loaded.model.state_dict())
    family.add_adapters(loaded.model, run)
    trained = [n for n, p in loaded.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    first = overfit(family, loaded, samples[:2], steps=1)
    assert overfit(family, loaded, samples[:2], steps=15) < first
    after = {name.replace("base_layer.", ""): v for name, v in loaded.model.state_dict().items()}
    for name, value in before.items():
        assert after[name].equal(value), name
    batch = batch_of(family, loaded, samples[:2])
    unmerged = logits(loaded.model, batch)
    saved(tmp_path / "merged", run, family, loaded)
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged, batch), unmerged, atol=1e-4, rtol=1e-4)
    assert not (merged.state_dict().keys() & set(trained))
    saved(tmp_path / "final", run.model_copy(update={"save": "adapter"}), family, loaded)
    sizes = {
        n: sum(f.stat().st_size for f in (tmp_path / n).glob("*.safetensors"))
        for n in ("merged", "final")
    }
    assert sizes["final"] < sizes["merged"] / 2
    told = {"library_name": "peft", "base_model_relation": "adapter"}
    told |= {"tags": ["spark-trainer", "lora"]}
    assert cards.head(tmp_path / "final", checkpoint).items() >= told.items()
    adapted = cards.loaded(tmp_path / "final")["model"]
    torch.testing.assert_close(logits(adapted, batch), unmerged, atol=1e-4, rtol=1e-4)


def test_gradient_checkpointing_gives_the_same_gradients(
    family: VisionLanguage, checkpoint: Path, samples: list[Sample]
) -> None:
    found = []
    for checkpointing in (False, True):
        loaded = family.load(str(checkpoint), LoadOptions())
        family.freeze(loaded.model, Run())
        if checkpointing:
            family.checkpoint_gradients(loaded.model)
        loaded.model.train()
        torch.manual_seed(0)  # of the dropout
        family.loss(loaded, loaded.model, batch_of(family, loaded, samples[:2])).backward()
        grads = {n: p.grad for n, p in loaded.model.named_parameters() if p.grad is not None}
        found.append(grads)
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-4, rtol=1e-4)


def test_from_scratch_differs_from_the_checkpoint(
    family: VisionLanguage, loaded: Loaded, checkpoint: Path
) -> None:
    torch.manual_seed(1)
    fresh = family.load(str(checkpoint), LoadOptions(from_scratch=True)).model.state_dict()
    same = family.load(str(checkpoint), LoadOptions()).model.state_dict()
    known = loaded.model.state_dict()
    assert all(known[name].equal(value) for name, value in same.items())
    weights = [name for name, value in known.items() if value.ndim > 1 and value.std() > 0]
    assert not any(fresh[name].equal(known[name]) for name in weights)


def test_pickle_weights_are_refused(
    family: VisionLanguage, checkpoint: Path, tmp_path: Path
) -> None:
    for file in checkpoint.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        family.load(str(tmp_path), LoadOptions())


def test_unknown_checkpoint_names_the_known_families(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match=r"train\.model_name.*'gpt2'.*blip"):
        families.find(str(tmp_path))
