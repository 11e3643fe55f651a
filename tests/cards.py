"""A model card as its reader takes it: the header as hubs parse it, the lines as they stand."""

import contextlib
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard


def head(final: Path, base: Path) -> dict[str, Any]:
    """The header, by the hub's own reader; a local base is named, and no place of this machine."""
    card = ModelCard.load(final / "README.md")
    assert f"a local model, `{base.name}`" in card.content
    assert not any(str(path.parent) in card.content for path in (final, base))
    header: dict[str, Any] = card.data.to_dict()
    return header


def loaded(final: Path, base: Path | None = None) -> dict[str, Any]:
    """What the card's lines make, run beside the folder that the card is of.

    Args:
        final: that folder, called `final`.
        base: the local model that the card names, which is put beside it under that name.
    """
    [code] = [
        part.partition("```")[0]
        for part in ModelCard.load(final / "README.md").content.split("```python\n")[1:]
    ]
    if base and not (final.parent / base.name).exists():
        (final.parent / base.name).symlink_to(base)
    names: dict[str, Any] = {}
    with contextlib.chdir(final.parent):
        exec(code, names)
    return names
