"""Refusing texts that hold a control token, such as one that ends a turn or stands for an image.

The tokenizer that will read the text says which tokens these are, so no family lists them.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from spark_trainer.data.sample import Unusable

PLACEHOLDERS = ("image_token", "video_token")  # attributes of processors


def refuse(processor: Any, what: str, *texts: str | None) -> None:
    """Refuse a text that holds a control token.

    Some tokenizers find such a token in another spelling too, so both the text and the tokens made
    of it are searched.

    Args:
        processor: upstream's processor or pipeline, with all its tokenizers.
        what: name of the texts for the message.
        texts: the texts as the user wrote them.

    Raises:
        Unusable: one of them holds a control token.
    """
    clean = _cleaning(processor)
    read = [clean(text) for text in texts if text]
    for tokenizer in _tokenizers(processor) if read else ():
        ids = _ids(processor, tokenizer)
        for text in read:
            if found := next(_found(tokenizer, ids, text), None):
                raise Unusable(f"{what} holds the control token {found!r}")


def ids(processor: Any) -> set[int]:
    """Return the control tokens of all tokenizers of a processor."""
    return {
        number
        for tokenizer in _tokenizers(processor)
        for number in _ids(processor, tokenizer).values()
    }


def _cleaning(processor: Any) -> Callable[[str], str]:
    """Return upstream's own cleaning of texts; some pipelines unescape HTML before tokenizing."""
    module = sys.modules[type(processor).__module__]
    clean: Callable[[str], str] = getattr(module, "prompt_clean", str)
    return clean


def _tokenizers(processor: Any) -> list[Any]:
    return [part for part in vars(processor).values() if hasattr(part, "added_tokens_decoder")]


def _ids(processor: Any, tokenizer: Any) -> dict[str, int]:
    """Return the id of each control token."""
    found = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    found |= {*tokenizer.all_special_tokens}
    found |= {str(getattr(processor, name, None) or "") for name in PLACEHOLDERS} - {""}
    names = sorted(found)
    return dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True))


def _found(tokenizer: Any, ids: dict[str, int], text: str) -> Iterator[str]:
    """Yield the control tokens that stand in a text, or that the tokenizer makes of it."""
    yield from (token for token in ids if token in text)
    text_ids = {*tokenizer(text, add_special_tokens=False).input_ids}
    for token, token_id in ids.items():
        # Any text may hold words that become the unknown token. In some tokenizers the same token
        # ends a text too, so it counts only where the text spells it.
        spelled = token_id != tokenizer.unk_token_id or token.casefold() in text.casefold()
        if token_id in text_ids and spelled:
            yield token
