"""BLIP's own facts: what is learnt token by token, and where the decoder starts."""

from dataclasses import replace

import pytest

from spark_trainer.data.sample import Sample
from spark_trainer.families.blip import Blip
from spark_trainer.families.kinds.batch import IGNORED
from spark_trainer.families.kinds.loading import Loaded, LoadOptions

from . import tiny


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return Blip().load(str(tiny.blip(tmp_path_factory.mktemp("blip"))), LoadOptions())


@pytest.mark.parametrize("prompt", [None, "tags:"])
def test_labels_token_by_token(loaded: Loaded, clips: list[Sample], prompt: str | None) -> None:
    chosen = [replace(clip, images=clip.images[:1], prompt=prompt) for clip in clips[:2]]
    encoded = [Blip().encode(loaded, sample, 99) for sample in chosen]
    batch = Blip().collate(loaded, encoded, packed=False).tensors
    tokenizer, text = loaded.processor.tokenizer, loaded.model.config.text_config
    asked = tokenizer(prompt or "", add_special_tokens=False).input_ids
    for row, sample in enumerate(chosen):
        said = [*tokenizer(sample.answer, add_special_tokens=False).input_ids, text.sep_token_id]
        width = batch["input_ids"].shape[1]
        filled = width - 1 - len(asked) - len(said)
        ids = [text.bos_token_id, *asked, *said, *[text.pad_token_id] * filled]
        assert batch["input_ids"][row].tolist() == ids
        nothing = [IGNORED] * (1 + len(asked))
        assert batch["labels"][row].tolist() == [*nothing, *said, *[IGNORED] * filled]


def test_a_long_text_is_cut_to_the_decoders_length(loaded: Loaded, clips: list[Sample]) -> None:
    long = replace(clips[0], images=clips[0].images[:1], answer="dog " * 50_000)
    encoded = Blip().encode(loaded, long, 2048)
    assert len(encoded.labels) == loaded.model.config.text_config.max_position_embeddings
    assert encoded.cut
