"""The labels as jobs read them: copies in the store, which no edit changes while a build runs.

.spark/labels.json                       what was looked at last, and the state that was found
.spark/labels/<digest>.json              one state: which videos have labels, a digest of each
.spark/labels/<kind>/<ab>.<digest>.json  hash -> digest, label and its place, of hashes with ab

Nothing is read again while no file of labels has another size or time.
"""

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from spark_trainer.config import Config
from spark_trainer.data.files import Broken, digest, read_json, write_json
from spark_trainer.data.labels import facts
from spark_trainer.data.labels.gathering import Gathered, Label, Videos
from spark_trainer.data.labels.given import CAPTIONED, DIGITS, Given, marked, parsed
from spark_trainer.data.layout import Layout, Video
from spark_trainer.data.search import Search

VERSION = 1  # of how labels are read
STATES, BUCKETS = 20, 2  # that stay beside the newest: a plan may run beside a build

Digests = dict[str, str]  # hash of a video -> digest of what is said of it


def collect(
    config: Config,
    search: Search,
    hashes: Mapping[str, str],
    sources: Mapping[str, list[str]],
    layout: Layout,
    index: str,
) -> Given:
    """Find the labels of a build's videos, and keep them where jobs read them.

    What doesn't fit is said in `search.remarks`.

    Args:
        config: the validated configuration.
        search: the files that were found.
        hashes: path -> hash.
        sources: hash -> names.
        layout: paths below `output_dir`.
        index: what names the state of the video folders.

    Raises:
        ConfigError, Broken: labels are not there, or can't be read; see `Videos.gather`.
        OSError: the copies can't be written.
    """
    kinds = config.labelled
    if not kinds:
        return Given()
    videos = Videos(config, search, hashes)
    seen = {
        kind: {
            place: [[file.path, file.size, file.mtime_ns] for file in files]
            for place, files in videos.files(kind).items()
        }
        for kind in kinds
    }
    captions = config.caption.names, config.caption.also_labelled
    key = digest([VERSION, config.labels.model_dump(mode="json"), captions, seen, index])
    with contextlib.suppress(FileNotFoundError, Broken, KeyError, TypeError):
        last = read_json(layout.labels_cache, dict)
        if last["key"] == key:
            search.remarks += last["remarks"]
            return load(layout, last["state"])
    gathered = {kind: videos.gather(kind) for kind in kinds}
    given, remarks = _kept(gathered, config, layout, sources)
    search.remarks += remarks
    if not any(one.unread for one in gathered.values()):
        write_json(layout.labels_cache, {"key": key, "remarks": remarks, "state": given.name})
    return given


def _kept(
    every: Mapping[str, Gathered],
    config: Config,
    layout: Layout,
    sources: Mapping[str, list[str]],
) -> tuple[Given, list[str]]:
    """Write what is new of the labels; returns the state, and remarks."""
    known: dict[str, Digests] = {}
    keys: dict[str, Any] = {}
    remarks = list[str]()
    for kind, gathered in every.items():
        if kind == "meta":
            told, said = facts.typed(gathered.found)
            keys |= told
            remarks += said
        elif kind == "questions":
            keys |= facts.typed_questions(gathered.found)
        remarks += gathered.remarks(kind, sources)
        known[kind] = _write(layout, kind, gathered.found)
    given = Given.of_all(marked(known, config), keys)
    if given and not _state(layout, given.name).is_file():
        write_json(_state(layout, given.name), given.spelled())
        _thin(layout.labels.glob("*.json"), STATES)
    return given, remarks


def _write(layout: Layout, kind: str, found: Mapping[str, Label]) -> Digests:
    """Write the copies of one kind that are not there yet; returns a digest of each label."""
    known = {video: digest(label.content)[:DIGITS] for video, label in sorted(found.items())}
    for beginning, bucket in _buckets(known).items():
        path = _copies(layout, kind, beginning, bucket)
        if not path.is_file():
            write_json(path, {video: [named, *found[video]] for video, named in bucket.items()})
            _thin(path.parent.glob(f"{beginning}.*.json"), BUCKETS)
    return known


def _buckets(known: Mapping[str, str]) -> dict[str, Digests]:
    """Divide videos by the beginnings of their hashes."""
    buckets: dict[str, Digests] = defaultdict(dict)
    for video, named in known.items():
        buckets[video[:2]][video] = named
    return buckets


def _copies(layout: Layout, kind: str, beginning: str, bucket: Digests) -> Path:
    return layout.labels / kind / f"{beginning}.{digest(bucket)[:DIGITS]}.json"


def _thin(paths: Iterator[Path], most: int) -> None:
    """Remove all files but the newest ones."""
    for path in sorted(paths, key=_written)[: -most - 1]:
        path.unlink(missing_ok=True)


def _state(layout: Layout, named: str) -> Path:
    return layout.labels / f"{named}.json"


def load(layout: Layout, named: str) -> Given:
    """Read a state.

    Raises:
        Broken: it is damaged, and removed, so that the next call writes it again.
        FileNotFoundError: it is gone.
    """
    try:
        return look_up(layout, named)
    except Broken as error:
        error.path.unlink(missing_ok=True)
        raise


def look_up(layout: Layout, named: str) -> Given:
    """Read the same as `load`; a damaged state stays.

    Raises:
        Broken, FileNotFoundError: as `load`.
    """
    if not named:
        return Given()
    path = _state(layout, named)
    content = path.read_bytes()
    if not hashlib.sha256(content.removesuffix(b"\n")).hexdigest().startswith(named):
        raise Broken(path, "not the labels that its name stands for")
    said = json.loads(content)
    return Given(said["known"], said["keys"], named)


def unused(layout: Layout, given: Sequence[Given]) -> set[Path]:
    """Return the copies that none of these states reads."""
    used = {_state(layout, one.name) for one in given}
    for one in given:
        for kind, known in one.known.items():
            used |= {_copies(layout, kind, *bucket) for bucket in _buckets(known).items()}
    return {*layout.labels.rglob("*.json")} - used


def holding(layout: Layout, video: str) -> Iterator[Path]:
    """Yield the copies that may hold what is said of a video, and what tells that they are."""
    yield from layout.labels.glob(f"*/{video[:2]}.*.json")
    yield from layout.labels.glob("*.json")
    yield layout.labels_cache


def states(layout: Layout) -> list[str]:
    """Name the states that are kept."""
    return [path.stem for path in layout.labels.glob("*.json")]


def find(layout: Layout, video: Video, kind: str) -> Label | None:
    """Read a label of a video as its step was told of it; None where there is none of this kind.

    Raises:
        Broken: the copy is gone or damaged; the next call writes it again.
    """
    try:
        return look(layout, video, kind)
    except Broken:
        copies = (layout.labels / kind).glob(f"{video.hash[:2]}.*.json")
        for path in (layout.labels_cache, *copies):
            path.unlink(missing_ok=True)
        raise


def look(layout: Layout, video: Video, kind: str) -> Label | None:
    """Read the same as `find`; damaged copies stay.

    Raises:
        Broken: as `find`.
    """
    wanted = parsed(video.labels).get(kind)
    if wanted is None or kind == CAPTIONED:
        return None
    copies = [*(layout.labels / kind).glob(f"{video.hash[:2]}.*.json")]
    for path in sorted(copies, key=_written, reverse=True):
        with contextlib.suppress(Broken, FileNotFoundError, KeyError, ValueError):
            named, content, place = _bucket(path, _written(path))[video.hash]
            if named == wanted == digest(content)[:DIGITS]:
                return Label(content, place)
    why = f"no label of {video.hash} there; the next call writes it again"
    raise Broken(layout.labels / kind, why)


def _written(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # removed by a call beside this one
        return path.stat().st_mtime_ns
    return 0


@lru_cache(maxsize=64)
def _bucket(path: Path, written: int) -> dict[str, tuple[str, Any, str]]:
    """Read copies, once for all videos in them."""
    return dict(read_json(path, dict))
