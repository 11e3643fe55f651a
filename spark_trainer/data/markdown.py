"""Texts of others in a page of Markdown."""


def plain(text: str) -> str:
    """Return a text that is no Markdown but for code: one line, no cells, no tags."""
    one_line = " ".join(text.split())
    return one_line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
