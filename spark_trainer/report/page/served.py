"""What a page has only where it is served: links that a server answers, and an editor.

The browser gets no path. A link names a file by a digest, and the server knows those that the page
was given, and the videos of the manifest.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spark_trainer.data import manifest
from spark_trainer.data.corrections import HAND
from spark_trainer.data.files import digest
from spark_trainer.data.layout import Layout
from spark_trainer.report.page.videos import Links

DIGITS = 24


@dataclass(frozen=True)
class ServedLinks(Links):
    """Links to a server.

    Attributes:
        author: who edits, unless the page says who.
        files: name -> the file, or the folder of frames, that was linked to.
    """

    author: str = ""
    files: dict[str, Path] = field(default_factory=dict)

    def to(self, path: Path) -> str:
        """Return the link to a file, and note it."""
        name = digest(str(path.absolute()))[:DIGITS]
        self.files[name] = path
        return f"file/{name}"

    def own_file(self, layout: Layout, video: str) -> str | None:
        """Return the link to the video's own file."""
        return None if super().own_file(layout, video) is None else f"video/{video}"

    def told(self, layout: Layout) -> dict[str, Any]:
        """Return what the editor starts with: who edits, and which videos are excluded."""
        rejected = manifest.rejected(layout.rejected)
        excluded = [
            [one["id"], str(one.get("source_path") or one["id"]), str(one.get("reason"))]
            for one in rejected
            if one.get("step") == HAND
        ]
        return {"author": self.author, "excluded": excluded}
