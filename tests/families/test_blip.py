"""BLIP's own facts: what is learnt token by token, and where the decoder starts."""

from pathlib import Path

import pytest

from spark_trainer.data.dataset import Sample
from spark_trainer.families import Loaded, blip
from spark_trainer.losses.next_token import IGNORED

from . import tiny


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return blip.load(str(tiny.blip(tmp_path_factory.mktemp("blip"))), from_scratch=False)


def test_labels_token_by_token(loaded: Loaded, samples: list[Sample]) -> None:
    batch = blip.collate(loaded, samples[:2])
    tokenizer, text = loaded.processor.tokenizer, loaded.model.config.text_config
    for row, sample in enumerate(samples[:2]):
        words = tokenizer(sample.text).input_ids
        width = batch["input_ids"].shape[1]
        padding = [text.pad_token_id] * (width - len(words))
        assert batch["input_ids"][row].tolist() == [text.bos_token_id, *words[1:], *padding]
        assert batch["labels"][row].tolist() == [*words, *[IGNORED] * len(padding)]
        assert words[-1] == text.sep_token_id
    lengths = [len(tokenizer(sample.text).input_ids) - 1 for sample in samples[:2]]
    assert blip.targets(batch) == sum(lengths)


def test_from_scratch_differs_from_the_checkpoint(loaded: Loaded, tmp_path: Path) -> None:
    folder = tiny.blip(tmp_path)
    again = blip.load(str(folder), from_scratch=False).model.state_dict()
    fresh = blip.load(str(folder), from_scratch=True).model.state_dict()
    name = "vision_model.encoder.layers.0.mlp.fc1.weight"
    assert again[name].equal(loaded.model.state_dict()[name])
    assert not fresh[name].equal(again[name])


def test_a_long_text_is_cut_to_the_decoders_length(loaded: Loaded, samples: list[Sample]) -> None:
    long = Sample(samples[0].video, samples[0].image, "dog " * 50_000)
    batch = blip.collate(loaded, [long])
    assert batch["input_ids"].shape[1] == loaded.model.config.text_config.max_position_embeddings
