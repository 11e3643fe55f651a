"""What a model makes of samples while it trains, as people look at it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.data import video

if TYPE_CHECKING:
    import jinja2
    from PIL.Image import Image

SHEET_COLUMNS = 8  # most frames of a clip on a contact sheet
STRIP_HEIGHT_PX = 120


@dataclass(frozen=True)
class Animation:
    """Frames of one size, and their rate in frames a second."""

    images: "Sequence[Image]"
    fps: float


@dataclass(frozen=True)
class Generated(ABC):
    """What was made of a sample of a video."""

    video: str

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """Write its files in a folder; returns what the list beside the folder says of it."""

    @abstractmethod
    def described(self, folder: Path) -> str:
        """Return what the log says of it."""

    def rows(self) -> "list[Image]":
        """Return its rows of a contact sheet."""
        return []

    def strip(self) -> "Image | None":
        """Return the frames that it is about, small and side by side, where there are any."""
        return None

    def animation(self) -> Animation | None:
        """Return what moves, for TensorBoard."""
        return None

    def section(self) -> str:
        """Return what a page of samples shows of it, as HTML; nothing where there is no page."""
        return ""


@dataclass(frozen=True)
class GeneratedText(Generated):
    """A text about a clip, beside the caption that the manifest has; `images` are its frames."""

    caption: str
    generated: str
    images: "Sequence[Image]"

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Generated`; there are no files."""
        return {"video": self.video, "caption": self.caption, "generated": self.generated}

    def described(self, folder: Path) -> str:
        return f"{self.generated!r} (manifest: {self.caption!r})"

    def strip(self) -> "Image | None":
        """See `Generated`."""
        return _row(glimpse(self.images)) if self.images else None


@dataclass(frozen=True)
class GeneratedVideo(Generated):
    """A video, beside the clip whose conditions it was made from, and that clip's caption."""

    caption: str
    fps: float
    truth: "Sequence[Image]"
    made: "Sequence[Image]"

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Generated`; the video is an MP4."""
        folder.mkdir(parents=True, exist_ok=True)
        path = self._path(folder)
        video.write(path, self.made, self.fps)
        return {
            "video": self.video,
            "caption": self.caption,
            "file": f"{folder.name}/{path.name}",
        }

    def described(self, folder: Path) -> str:
        return str(self._path(folder))

    def rows(self) -> "list[Image]":
        """See `Generated`: a row of the clip's own frames, and one of those made."""
        return [_row(self.truth), _row(self.made)]

    def animation(self) -> Animation:
        return Animation(self.made, self.fps)

    def _path(self, folder: Path) -> Path:
        return folder / f"{self.video}.mp4"


def glimpse(images: "Sequence[Image]") -> "Sequence[Image]":
    """Return some of the frames, evenly chosen and small: processes send them to each other."""
    made = [image.convert("RGB") for image in _some(images)]  # a copy
    for image in made:
        image.thumbnail((8 * STRIP_HEIGHT_PX, STRIP_HEIGHT_PX))
    return made


def _some(images: "Sequence[Image]") -> "Sequence[Image]":
    count = min(SHEET_COLUMNS, len(images))
    return [images[round(i * (len(images) - 1) / max(1, count - 1))] for i in range(count)]


def _row(images: "Sequence[Image]") -> "Image":
    """Return some of the frames beside each other, evenly chosen."""
    from PIL import Image

    chosen = _some(images)
    width, height = chosen[0].size
    row = Image.new("RGB", (width * len(chosen), height))
    for column, image in enumerate(chosen):
        row.paste(image, (column * width, 0))
    return row


def page(title: str, parts: Mapping[str, Sequence[str]]) -> str:
    """Return a web page that needs no other file: sections of HTML below their headings."""
    from markupsafe import Markup

    known = {  # made by a template of ours
        heading: [Markup(one) for one in sections]  # noqa: S704
        for heading, sections in parts.items()
    }
    return template("samples").render(title=title, parts=known)


@cache
def template(name: str) -> "jinja2.Template":
    """Return a template of this folder, which escapes what it is given."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = resources.files("spark_trainer.families.kinds").joinpath(f"{name}.html")
    return environment.from_string(text.read_text(encoding="utf-8"))


def sheet(rows: "Sequence[Image]") -> "Image":
    """Return a contact sheet: the rows below each other."""
    from PIL import Image

    made = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)))
    top = 0
    for row in rows:
        made.paste(row, (0, top))
        top += row.height
    return made
