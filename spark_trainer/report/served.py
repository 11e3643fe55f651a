"""What is on a page only where it is served: videos that play, and an editor of what is said.

The page gives each clip's element `data-clip`, the video's hash, and ends with `script`, which
fills them. An excluded clip's element has `data-excluded` too.
"""

from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Served:
    """Who a page is served to: the nonce that lets its scripts run, and the editor's name."""

    nonce: str
    author: str

    @property
    def script(self) -> str:
        """Return the script; it holds nothing of the videos."""
        return resources.files(__package__).joinpath("served.js").read_text(encoding="utf-8")
