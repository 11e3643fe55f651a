"""Texts that hold a control token: one that would end a turn, stand for an image, or say nothing.

Which tokens those are is asked of the tokenizer that will read the text, whatever the family.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from spark_trainer.data.sample import Unusable

PLACEHOLDERS = ("image_token", "video_token")  # of processors


def refuse(processor: Any, what: str, *texts: str | None) -> None:
    """Stop a text that holds a control token.

    Some tokenizers find such tokens in another spelling, so what they make of a text counts too.

    Args:
        processor: upstream's processor or pipeline, with whatever tokenizers it has.
        what: what the texts are, for the message.
        texts: as the user wrote them.

    Raises:
        Unusable: one of them does.
    """
    clean = _cleaning(processor)
    read = [clean(text) for text in texts if text]
    for tokenizer in _tokenizers(processor) if read else ():
        ids = _ids(processor, tokenizer)
        for text in read:
            if found := next(_found(tokenizer, ids, text), None):
                raise Unusable(f"{what} holds the control token {found!r}")


def _cleaning(processor: Any) -> Callable[[str], str]:
    """What upstream does to a text before its tokenizer sees it: some pipelines unescape HTML."""
    module = sys.modules[type(processor).__module__]
    clean: Callable[[str], str] = getattr(module, "prompt_clean", str)
    return clean


def _tokenizers(processor: Any) -> list[Any]:
    return [part for part in vars(processor).values() if hasattr(part, "added_tokens_decoder")]


def _ids(processor: Any, tokenizer: Any) -> dict[str, int]:
    """Each control token and its number."""
    found = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    found |= {*tokenizer.all_special_tokens}
    found |= {str(getattr(processor, name, None) or "") for name in PLACEHOLDERS} - {""}
    names = sorted(found)
    return dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True))


def _found(tokenizer: Any, ids: dict[str, int], text: str) -> Iterator[str]:
    """Control tokens that stand in a text, or that the tokenizer makes of it."""
    yield from (token for token in ids if token in text)
    made = {*tokenizer(text, add_special_tokens=False).input_ids}
    for token, number in ids.items():
        # That of what a tokenizer does not know comes of any text; some end a text by it, too.
        spelt = number != tokenizer.unk_token_id or token.casefold() in text.casefold()
        if number in made and spelt:
            yield token
