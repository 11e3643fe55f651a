"""What builds make of corrections: notes in the index, and copies that no edit changes.

.spark/corrected/<digest>.json              one state of all corrections: hash -> kind -> note
.spark/corrected/<sha256>.<digest>.json     what a step reads of a video's correction

A step is told of the kinds that it reads alone, so that a corrected transcript selects no caption.
The digest stands in the list of a shard's videos and in the step's record of the video.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spark_trainer.config import STEP_SECTIONS
from spark_trainer.data import corrections
from spark_trainer.data.corrections import HAND, KINDS, Correction, Signed
from spark_trainer.data.files import Broken, digest, flush, read_json, write_json
from spark_trainer.data.layout import Layout, Video

DIGITS = 16
TAUGHT = ("caption", "transcript")  # what a run may learn; a flag is a remark
LEFT_OUT = "exclude"
NOBODY_SPEAKS = "no voice"  # as the step says that heard none


@dataclass(frozen=True)
class Note:
    """What is known of something that was said: a digest of it, and who said it when."""

    said: str
    author: str
    time: str

    def __str__(self) -> str:
        return f"{self.author}, {self.time[:10]}"

    @classmethod
    def of(cls, signed: Signed) -> "Note":
        """Note something that was said."""
        said = signed.model_dump(mode="json", exclude={"author", "time"})
        return cls(digest(said)[:DIGITS], signed.author, signed.time)


Notes = dict[str, Note]  # kind -> what is known of it


def read_together() -> set[tuple[str, ...]]:
    """Return the kinds that each step reads together, and all, which the manifest reads."""
    return {KINDS, *filter(None, (one.CORRECTED for one in STEP_SECTIONS.values()))}


def notes(found: Mapping[str, Correction]) -> dict[str, Notes]:
    """Note corrections: hash -> kind -> note."""
    return {
        video: {kind: Note.of(one) for kind, one in correction.said.items()}
        for video, correction in found.items()
    }


def name(known: Mapping[str, Note], kinds: Sequence[str]) -> str:
    """Name what of these kinds was said of a video; empty where nothing was."""
    said = {kind: asdict(note) for kind, note in known.items() if kind in kinds}
    return digest(said)[:DIGITS] if said else ""


def state(known: Mapping[str, Notes]) -> str:
    """Name one state of all corrections; empty where there are none."""
    return digest(_spelled(known))[:DIGITS] if known else ""


def learnt(known: Mapping[str, Notes]) -> dict[str, dict[str, str]]:
    """Return hash -> kind -> digest, of what changes a run's data; whoever said it, or why."""
    found = {
        video: {LEFT_OUT: ""}
        if LEFT_OUT in said
        else {kind: said[kind].said for kind in TAUGHT if kind in said}
        for video, said in known.items()
    }
    return {video: kinds for video, kinds in found.items() if kinds}


def write(layout: Layout, found: Mapping[str, Correction], known: Mapping[str, Notes]) -> None:
    """Write the copies that are not there yet, then the state that names them."""
    there, new = {path.name for path in layout.corrected.glob("*.json")}, list[Path]()
    for video, correction in found.items():
        for kinds in read_together():
            if (named := name(known[video], kinds)) and f"{video}.{named}.json" not in there:
                new.append(copy(layout, video, named))
                write_json(new[-1], correction.only(kinds).spelled(), flushed=False)
    flush(new)
    if known and f"{state(known)}.json" not in there:
        write_json(layout.corrected / f"{state(known)}.json", _spelled(known))


def _spelled(known: Mapping[str, Notes]) -> dict[str, Any]:
    return {
        video: {kind: asdict(note) for kind, note in said.items()} for video, said in known.items()
    }


def copy(layout: Layout, video: str, named: str) -> Path:
    """Name the copy of what a step reads of a video's correction."""
    return layout.corrected / f"{video}.{named}.json"


def copies(layout: Layout, known: Mapping[str, Notes]) -> set[Path]:
    """Name all that `write` wrote."""
    named = {
        copy(layout, video, named)
        for video, said in known.items()
        for kinds in read_together()
        if (named := name(said, kinds))
    }
    return named | {layout.corrected / f"{state(known)}.json"} if known else set()


def problems(
    layout: Layout, folder: Path, known: Mapping[str, Notes], videos: Container[str]
) -> Iterator[tuple[Path, str]]:
    """Yield the corrections that can't be read or are of no video, and the copies that are gone.

    Args:
        layout: the store.
        folder: of the corrections.
        known: what the last build was told of.
        videos: the hashes of those that it found.
    """
    for path in corrections.listed(folder):
        try:
            if corrections.read(path).video not in videos:
                yield path, "of no video of the last build"
        except corrections.Unreadable as error:
            yield path, str(error).removeprefix(f"{path}: ")
    for path in sorted(copies(layout, known)):
        try:
            load(layout, path.stem) if len(path.stem) == DIGITS else _copied(path)
        except (Broken, FileNotFoundError):
            yield path, "gone or damaged; the last build read it"


def counted(videos: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count what was corrected by hand, by kind and author; of each video its `meta.corrected`."""
    every = (item for one in videos for item in (one.get("corrected") or {}).items())
    return dict(Counter(f"{kind} by {who['author']}" for kind, who in every if who))


def load(layout: Layout, named: str) -> dict[str, Notes]:
    """Read a state of all corrections; none where its name is empty.

    Raises:
        Broken: it is damaged.
        FileNotFoundError: it is gone.
    """
    if not named:
        return {}
    path = layout.corrected / f"{named}.json"
    said = read_json(path, dict)
    try:
        known = {
            video: {kind: Note(**note) for kind, note in kinds.items()}
            for video, kinds in said.items()
        }
    except (TypeError, AttributeError):
        known = {}
    if state(known) != named:
        raise Broken(path, "not the corrections that its name stands for")
    return known


def of(layout: Layout, video: Video) -> Correction | None:
    """Read what a step is told of a video's correction; None where there is none.

    Raises:
        Broken: the copy is gone or damaged; the next call writes it again.
        OSError: it can't be read.
    """
    try:
        return look(layout, video)
    except Broken as error:
        error.path.unlink(missing_ok=True)
        raise


def look(layout: Layout, video: Video) -> Correction | None:
    """Read the same as `of`; a damaged copy stays.

    Raises:
        Broken, OSError: as `of`.
    """
    return _copied(copy(layout, video.hash, video.correction)) if video.correction else None


def _copied(path: Path) -> Correction:
    """Read a copy.

    Raises:
        Broken: it is gone, or not what its name stands for.
    """
    try:
        found = corrections.read(path)
    except FileNotFoundError:
        raise Broken(path, "gone") from None
    except corrections.Unreadable as error:
        raise Broken(path, str(error)) from None
    [(video, said)] = notes({found.video: found}).items()
    if path.name != f"{video}.{name(said, KINDS)}.json":
        raise Broken(path, "not what its name stands for")
    return found


def told(kind: str, videos: str, note: str | None) -> str:
    """Say that something was corrected by hand, or that it was taken back.

    Args:
        kind: what, of `KINDS`.
        videos: their names.
        note: who said it, and when; None where it was taken back.
    """
    if kind in TAUGHT:
        back = f"correction of the {kind} of {videos} taken back"
        return back if note is None else f"{kind} of {videos} corrected by hand ({note})"
    done = "excluded" if kind == LEFT_OUT else "flagged"
    return f"{videos} no longer {done}" if note is None else f"{videos} {done} by hand ({note})"


def facts(correction: Correction) -> dict[str, Any]:
    """Return what the manifest's line says after a correction, in the place of what steps said."""
    said: dict[str, Any] = {"corrected": {k: _signature(one) for k, one in correction.said.items()}}
    if correction.caption:
        said |= dict.fromkeys(("captioner_model", "captioner_revision", "caption_prompt"))
        said |= {"caption": correction.caption.text, "captioner": HAND, "no_caption": None}
    if correction.transcript:
        spoken = correction.transcript.model_dump(mode="json")
        said |= dict.fromkeys(("transcriber_model", "transcriber_revision"))
        said |= {"transcript": spoken["text"], "segments": spoken["segments"], "transcriber": HAND}
        said["no_transcript"] = None if spoken["text"] else NOBODY_SPEAKS
    if correction.flag:
        said["flag"] = correction.flag.text
    return said


def _signature(one: Signed) -> dict[str, str]:
    return {"author": one.author, "time": one.time}
