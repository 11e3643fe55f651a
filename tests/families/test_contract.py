"""What every family keeps, on a tiny random checkpoint that upstream's classes made."""

from pathlib import Path

import pytest
import torch

from spark_trainer import families
from spark_trainer.data.dataset import Sample
from spark_trainer.families import Family, Loaded

from . import tiny


@pytest.fixture(scope="module", params=families.names())
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return getattr(tiny, request.param)(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def family(checkpoint: Path) -> Family:
    return families.find(str(checkpoint))


@pytest.fixture
def loaded(family: Family, checkpoint: Path) -> Loaded:
    return family.load(str(checkpoint), from_scratch=False)


def test_loss_is_upstreams_own(family: Family, loaded: Loaded, samples: list[Sample]) -> None:
    batch = family.collate(loaded, samples)
    ours = family.loss(loaded, loaded.model, batch) / family.targets(batch)
    torch.testing.assert_close(ours, loaded.model(**batch).loss, atol=1e-5, rtol=0)


def test_padding_changes_nothing(family: Family, loaded: Loaded, samples: list[Sample]) -> None:
    loaded.model.eval()
    together = family.loss(loaded, loaded.model, family.collate(loaded, samples))
    alone = [family.loss(loaded, loaded.model, family.collate(loaded, [s])) for s in samples]
    torch.testing.assert_close(together, torch.stack(alone).sum(), atol=1e-4, rtol=1e-5)


def test_every_trainable_weight_gets_a_gradient(
    family: Family, loaded: Loaded, samples: list[Sample]
) -> None:
    loaded.model.train()
    family.loss(loaded, loaded.model, family.collate(loaded, samples)).backward()
    trainable = [(n, p) for n, p in loaded.model.named_parameters() if p.requires_grad]
    assert trainable
    # BLIP's caption loss reads the patch tokens; the pooled class token's head has no part in it.
    idle = [n for n, p in trainable if p.grad is None or not p.grad.abs().sum()]
    assert all("key.bias" in name or "qkv.bias" in name for name in idle), idle


def test_overfits_and_says_the_captions(
    family: Family, loaded: Loaded, samples: list[Sample]
) -> None:
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=3e-3)
    batch = family.collate(loaded, samples)
    for _ in range(150):
        loss = family.loss(loaded, loaded.model, batch) / family.targets(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(loaded.model.parameters(), 1.0)
        optimizer.step()
    assert loss < 0.05
    loaded.model.eval()
    said = family.generate(loaded, loaded.model, [sample.image for sample in samples])
    plain = [text.replace(" ", "") for text in said]
    assert plain == [sample.text.replace(" ", "") for sample in samples]


def test_what_is_saved_loads_upstream(
    family: Family, loaded: Loaded, samples: list[Sample], tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    family.save(loaded, loaded.model, tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    upstream = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert AutoProcessor.from_pretrained(tmp_path)
    batch = family.collate(loaded, samples)
    torch.testing.assert_close(
        upstream(**batch).logits, loaded.model.eval()(**batch).logits, atol=0, rtol=0
    )


def test_unknown_checkpoint_names_the_known_families(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match=r"train\.model_name.*'gpt2'.*blip"):
        families.find(str(tmp_path))


def test_pickle_weights_are_refused(family: Family, checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        family.load(str(tmp_path), from_scratch=False)
