"""Whisper's three vocabularies, and transformers' tokenizer for each, made of OpenAI's files.

Tokenizers that come with weights can't be trusted: some have merges of before
huggingface/transformers#29368, which split " there", and some lack the time tokens, so that asking
for one gives the end token.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import WhisperTokenizer
    from whisper.tokenizer import Tokenizer

# Size of a model's vocabulary -> the file of OpenAI's package, and the languages with a token.
SIZES = {51864: ("gpt2", 99), 51865: ("multilingual", 99), 51866: ("multilingual", 100)}
TIMES = 1501  # tokens, of 0.00 to 30.00 s in steps of 0.02


def known(size: int) -> str:
    """Return OpenAI's name of the vocabulary of a size.

    Raises:
        ValueError: Whisper has none.
    """
    if size not in SIZES:
        expected = ", ".join(map(str, SIZES))
        raise ValueError(f"its vocabulary has {size} tokens; Whisper's have {expected}")
    return SIZES[size][0]


def multilingual(size: int) -> bool:
    """Tell whether a vocabulary of this size knows other languages than English."""
    return known(size) == "multilingual"


def openai(size: int) -> "Tokenizer":
    """Return OpenAI's own tokenizer for a vocabulary of this size."""
    from whisper.tokenizer import get_tokenizer

    return get_tokenizer(multilingual(size), num_languages=SIZES[size][1])


def tokenizer(size: int) -> "WhisperTokenizer":
    """Return transformers' tokenizer that gives the very ids of OpenAI's.

    Time tokens are in it, and are no special ones: upstream takes the first id after the last
    special token for that of 0.00 s.
    """
    from tokenizers import AddedToken
    from transformers import WhisperTokenizer

    words, merges = _words_and_merges(known(size))
    special = openai(size).special_tokens
    ordered = sorted(special, key=special.__getitem__)
    made = WhisperTokenizer(
        vocab=dict(words),
        merges=list(merges),
        pad_token=ordered[0],  # as OpenAI's checkpoints at the hub have it
        extra_special_tokens=ordered[1:-TIMES],
    )
    made.add_tokens(
        [AddedToken(time, special=False, normalized=False) for time in ordered[-TIMES:]]
    )
    return made


def check(folder: Path, size: int) -> None:
    """Refuse weights whose own tokenizer has other words than Whisper's, or at other places.

    Args:
        folder: where the weights lie; without a vocabulary in it there is nothing to refuse.
        size: of the model's vocabulary.

    Raises:
        ValueError: a word has another id; the message names the file.
    """
    words, _ = _words_and_merges(known(size))
    for file in ("tokenizer.json", "vocab.json", "vocabulary.json", "vocabulary.txt"):
        if not (folder / file).is_file():
            continue
        found = _read(folder / file)
        for word, number in words.items():
            if word and found.get(word) != number:  # some files lack the one empty word
                raise ValueError(
                    f"{folder / file}: expected Whisper's vocabulary of {size} tokens, in which "
                    f"{word!r} is {number} (got {found.get(word)})"
                )


def _read(path: Path) -> dict[str, int]:
    """Read word -> id from a tokenizer of transformers, or a list of words of CTranslate2."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        return {word: number for number, word in enumerate(text.split("\n"))}
    try:
        told: Any = json.loads(text)
        if path.name == "tokenizer.json":
            return dict(told["model"]["vocab"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: no tokenizer can be read from it") from None
    if isinstance(told, list):
        return {word: number for number, word in enumerate(told)}
    return dict(told)


@cache
def _words_and_merges(name: str) -> tuple[Mapping[str, int], list[tuple[str, str]]]:
    """Return word -> id, and pairs of words that become one, in order, from OpenAI's file."""
    import whisper
    from transformers.convert_slow_tokenizer import TikTokenConverter

    path = str(Path(whisper.__file__).parent / "assets" / f"{name}.tiktoken")
    words, merges = TikTokenConverter(path).extract_vocab_merges_from_model(path)
    return words, merges
