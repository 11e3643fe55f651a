"""Whether what the steps' sections declare fits together."""

from collections.abc import Iterator, Mapping
from itertools import chain

from spark_trainer.config.section import StepSection
from spark_trainer.errors import UserError

Sections = Mapping[str, type[StepSection]]


def check(sections: Sections) -> None:
    """Look whether each step reads steps before it, and adds keys of its own to the manifest.

    Args:
        sections: step -> its section, in pipeline order.

    Raises:
        UserError: a line for each declaration that can't be, with the file and the key.
    """
    wrong = [
        f"spark_trainer/config/{step}.py: {line}"
        for number, step in enumerate(sections)
        for line in chain(_upstream(sections, number), _keys(sections, number))
    ]
    if wrong:
        raise UserError("\n".join(wrong))


def _upstream(sections: Sections, number: int) -> Iterator[str]:
    """Yield what a step reads that is no step before it."""
    names = list(sections)
    before = names[:number]
    for name in sections[names[number]].UPSTREAM:
        if name not in before:
            expected = ", ".join(before) or "none, as it is the first"
            yield f"UPSTREAM: expected steps that stand before it: {expected} (got {name!r})"


def _keys(sections: Sections, number: int) -> Iterator[str]:
    """Yield the keys of the manifest that an earlier step has, without a word about it."""
    names = list(sections)
    own = sections[names[number]]
    for name in names[:number]:
        for key in own.MANIFEST.keys() & sections[name].MANIFEST.keys() - set(own.SHARED):
            yield f"MANIFEST: {key!r} is a key of {name}; expected another name, or it in SHARED"
    if unknown := set(own.SHARED) - own.MANIFEST.keys():
        yield f"SHARED: expected keys of MANIFEST (got {min(unknown)!r})"
