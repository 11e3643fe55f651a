"""The report: one page of HTML that holds all it shows, about a store and the runs on it.

page.html      what the browser gets: a style, a script, and data as blocks of JSON
*.css *.js     the style and the script, each file a part of the page
videos.py      the gallery's videos
thumbnails.py  their pictures
glance.py      what is counted over the whole manifest
runs.py        curves, held-out samples and settings of runs
origins.py     who made what, and which run comes from which
since.py       what changed since the report before
served.*       what it has where it is served: an editor

What is said about videos is data, never markup: it reaches the page as JSON in which no `<` stands,
and the script makes text of it. The page loads nothing but the files that it links to; its
Content-Security-Policy says so to the browser.
"""

import base64
import hashlib
import heapq
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import count, islice
from pathlib import Path
from typing import Any

from spark_trainer.data import manifest
from spark_trainer.data.files import file_digest, replacing
from spark_trainer.data.layout import Layout
from spark_trainer.report.page import origins, runs, since, videos
from spark_trainer.report.page.glance import Glance
from spark_trainer.report.page.served import ServedLinks
from spark_trainer.report.page.thumbnails import Thumbnails
from spark_trainer.report.page.videos import Links
from spark_trainer.runs.folder import RunFolder

PER_BLOCK = 100  # videos whose texts, or pictures, the browser decodes together
STYLE = ("page.css", "gallery.css", "runs.css")
SCRIPT = (
    *("elements.js", "data.js", "player.js", "video.js", "gallery.js", "glance.js", "curves.js"),
    *("samples.js", "runs.js", "lineage.js", "since.js"),
)
DRAWING = "page.js"  # for which all others are ready
# No `<` in a block of JSON, so no tag and no comment can begin or end there.
UNSEEN = {ord("<"): "\\u003c", ord("\u2028"): "\\u2028", ord("\u2029"): "\\u2029"}


@dataclass(frozen=True)
class Written:
    """What a page holds: videos, of so many that the manifest has, and what it could not read."""

    videos: int
    total: int
    runs: int
    without_picture: int
    left_out: Sequence[str] = ()

    def __str__(self) -> str:
        shown = _many(self.total, "video")
        if self.videos < self.total:
            shown = f"{self.videos:,} of {shown}, all counted"
        missing = f", {self.without_picture:,} without a picture" if self.without_picture else ""
        return f"{shown}{missing}, {_many(self.runs, 'run')}"


def write(
    manifest_path: Path,
    page: Path,
    folders: Iterable[RunFolder],
    limit: int,
    threads: int = 1,
    served: ServedLinks | None = None,
) -> Written:
    """Write the page.

    Args:
        manifest_path: the manifest that it is about.
        page: the file to write.
        folders: the runs that it shows.
        limit: the most videos of its gallery; those whose captions agree least come first.
        threads: that make thumbnails.
        served: where a server answers the page's links; they are noted there.

    Raises:
        Broken: a line of the manifest is no entry.
        OSError: the manifest can't be read, or the page not be written.
    """
    layout = Layout(manifest_path.parent)
    links = served or Links.of(page, layout)
    glance = Glance(layout)
    chosen = heapq.nsmallest(limit, map(glance.add, manifest.read(manifest_path)), videos.doubt)
    glance.reject(manifest.rejected(layout.rejected), limit)
    shown = runs.Shown.read(folders, links)
    pictures = Thumbnails(layout).of(videos.middles(chosen, layout.root), threads)
    sha256 = file_digest(manifest_path)
    told = _info(manifest_path, sha256, glance.videos)
    blocks = {
        "info": told,
        "glance": glance.told(),
        "since": since.told(layout, sha256, glance.videos, shown.found, kept=served is None),
        "videos": videos.columns(chosen),
        "runs": shown.told(),
        "lineage": origins.told(glance.makers, shown.runs),
        **({"served": served.told(layout)} if served else {}),
    }
    seen_by = shown.seen_by()
    details = (videos.details(entry, links, layout, seen_by) for entry in chosen)
    small = (pictures.get(entry["id"], "") for entry in chosen)
    numbered = {"texts": _numbered("texts", details), "pictures": _numbered("pictures", small)}
    with replacing(page) as temporary, open(temporary, "w", encoding="utf-8") as file:
        _render(told["name"], [blocks.items(), *numbered.values()], file, editable=bool(served))
    missing = sum(entry["id"] not in pictures for entry in chosen)
    return Written(len(chosen), glance.videos, len(shown.runs), missing, shown.complaints)


def _info(manifest_path: Path, sha256: str, total: int) -> dict[str, Any]:
    return {
        "name": manifest_path.resolve().parent.name,
        "made": time.time(),
        "manifest": sha256,
        "per_block": PER_BLOCK,
        "total": total,
    }


def _many(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def _numbered(name: str, values: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield blocks of so many values as the browser decodes at once."""
    left = iter(values)
    for number in count():
        some = list(islice(left, PER_BLOCK))
        if not some:
            return
        yield f"{name}-{number}", some


def _render(
    name: str, blocks: Sequence[Iterable[tuple[str, Any]]], file: Any, editable: bool
) -> None:
    """Write the page piece by piece: it may be larger than what one wants in memory twice."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_part("page.html"))
    more = ("served.css",) if editable else (), ("served.js",) if editable else ()
    names = (*STYLE, *more[0]), (*SCRIPT, *more[1], DRAWING)
    style, script = ("\n".join(map(_part, some)) for some in names)
    every = ((key, embedded(value)) for some in blocks for key, value in some)
    told = {"name": name, "style": style, "script": script, "blocks": every}
    allowed = {"style_hash": _hash(style), "script_hash": _hash(script)}
    for piece in template.generate(told | allowed):
        file.write(piece)


def _part(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the digest by which a Content-Security-Policy allows an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def embedded(value: Any) -> str:
    """Return JSON as it may stand between two tags, whatever the texts in it say."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace").decode().translate(UNSEEN)
