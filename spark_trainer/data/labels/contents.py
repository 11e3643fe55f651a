"""What a row, or a file beside a video, says of it; one JSON value for each kind of label.

captions       a text
transcripts    {"ending", "text", "language"} of a file, or {"cues"} of rows
meta           a mapping
questions      a list of mappings
"""

import json
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from spark_trainer.config import Labels
from spark_trainer.config.labels import BESIDE
from spark_trainer.config.transcript import WHISPER_LANGUAGES
from spark_trainer.data import questions
from spark_trainer.data.jsonl import Broken, shown
from spark_trainer.data.plain import no_text, split
from spark_trainer.data.sample import Unusable

PATHS = (
    *("path", "file_name", "video", "video_path", "media_path", "file", "filename", "videos"),
    *("source_path", "id"),
)
CAPTIONS = ("caption", "text", "prompt")
TRANSCRIPTS = ("transcript", "text", "segments")
INFO = ".info.json"
# Of yt-dlp's hundred keys, those that tell what a video is, and whose.
OF_INFO = (
    *("title", "description", "uploader", "channel", "upload_date", "license", "webpage_url"),
    *("tags", "categories", "view_count", "like_count"),
)
MOST = 1 << 26  # bytes of a file for one video


class Said(NamedTuple):
    """What is said of a video, and how the file names the video; None where it tells nothing."""

    name: str
    content: Any


def of_row(kind: str, values: Mapping[str, Any], chosen: Labels) -> Said | None:
    """Return what a row says; None where it says nothing of this kind.

    Raises:
        Unusable: something in it is wrong.
    """
    if kind == "questions":
        asked = questions.parsed(dict(values))
        return None if asked is None else Said(asked.path, [asked.item])
    content = OF_ROW[kind](values, chosen)
    if sign := no_text(content):
        raise Unusable(f"it holds {sign}, which is no character of a text")
    return Said(_path(values, chosen), content)


def lacking(kind: str, names: Mapping[str, Any], chosen: Labels) -> str | None:
    """Tell which column a table lacks; None where it has all that is needed."""
    if kind == "questions":
        return None
    paths = (chosen.path_key,) if chosen.path_key else PATHS
    captions = (chosen.caption_key,) if chosen.caption_key else CAPTIONS
    others = {"captions": captions, "transcripts": TRANSCRIPTS, "meta": chosen.meta_keys}[kind]
    for needed in filter(None, (paths, others)):
        if not names.keys() & {*needed}:
            return f"expected a column {' or '.join(needed)} (got {', '.join(map(str, names))})"
    return None


def _path(values: Mapping[str, Any], chosen: Labels) -> str:
    keys = (chosen.path_key,) if chosen.path_key else PATHS
    named = next((values[key] for key in keys if values.get(key)), None)
    if isinstance(named, list) and len(named) == 1:
        named = named[0]
    if isinstance(named, dict):  # as `datasets` keeps a file
        named = named.get("path")
    if not isinstance(named, str) or not named.strip():
        raise Unusable(f"without {' or '.join(keys[:3])}")
    return named.strip()


def _caption(values: Mapping[str, Any], chosen: Labels) -> str:
    keys = (chosen.caption_key,) if chosen.caption_key else CAPTIONS
    found = next((values[key] for key in keys if values.get(key) not in (None, "")), "")
    return _text(found, "a caption")


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise Unusable(f"expected {what} (got {shown(value)})")
    text = value.strip()
    if not text:
        raise Unusable(f"without {what}")
    return text


def _transcript(values: Mapping[str, Any], chosen: Labels) -> dict[str, Any]:
    """Return cues, whose times and language the transcriber checks."""
    language = values.get("language") or None
    segments = values.get("segments")
    if isinstance(segments, list) and segments:
        each = [one for one in segments if isinstance(one, dict)]
        if len(each) < len(segments):
            raise Unusable("segments: expected text, start and end")
    else:
        text = values.get("transcript") or values.get("text")
        each = [{**values, "text": text}]
    cues = [
        {
            "text": _text(one.get("text"), "a text"),
            "start": _seconds(one.get("start")),
            "end": _seconds(one.get("end")),
            "language": language,
        }
        for one in each
    ]
    return {"cues": cues}


def _seconds(value: Any) -> float | None:
    if value in (None, ""):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Unusable(f"expected seconds (got {shown(value)})") from None


def _meta(values: Mapping[str, Any], chosen: Labels) -> dict[str, Any]:
    if chosen.meta_keys is None:
        paths = {chosen.path_key} if chosen.path_key else {*PATHS}
        taken = [key for key in values if key not in paths]
    else:
        taken = [key for key in chosen.meta_keys if key in values]
    return _told({key: values[key] for key in taken})


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of which there are any; their types are settled over all videos."""
    facts = {key: value for key, value in values.items() if value not in (None, "", [], {})}
    try:
        return dict(json.loads(json.dumps(facts, allow_nan=False, default=str)))
    except ValueError:
        raise Unusable("NaN is no number; expected null") from None


OF_ROW: dict[str, Callable[[Mapping[str, Any], Labels], Any]] = {
    "captions": _caption,
    "transcripts": _transcript,
    "meta": _meta,
}


def _caption_file(lines: list[str], name: str, chosen: Labels) -> str:
    for number, line in enumerate(lines, start=1):
        if sign := no_text(line):
            raise Unusable(f"line {number}: it holds {sign}, which is no character of a text")
    return _text("\n".join(lines), "a caption")


def _transcript_file(lines: list[str], name: str, chosen: Labels) -> dict[str, Any]:
    ending = PurePosixPath(name).suffix.lower()
    return {"ending": ending, "text": "\n".join(lines), "language": language(name)}


def _info_file(lines: list[str], name: str, chosen: Labels) -> dict[str, Any]:
    try:
        said = json.loads("\n".join(lines))
    except RecursionError:
        raise Unusable("no JSON that can be read: too deeply nested") from None
    except json.JSONDecodeError as error:
        raise Unusable(f"line {error.lineno}: no JSON: {error.msg}") from None
    if not isinstance(said, dict):
        raise Unusable("expected a mapping")
    taken = chosen.meta_keys or OF_INFO
    told = _told({key: said[key] for key in taken if key in said})
    if sign := no_text(told):
        raise Unusable(f"it holds {sign}, which is no character of a text")
    return told


class FileOf(NamedTuple):
    """Files of a kind: the endings of their names, and what one says."""

    endings: tuple[str, ...]
    read: Callable[[list[str], str, Labels], Any]


FILES = {
    "captions": FileOf((".txt", ".caption"), _caption_file),
    "transcripts": FileOf((".srt", ".vtt", ".json"), _transcript_file),
    "meta": FileOf((INFO,), _info_file),
}


def of_file(kind: str, content: bytes, name: str, chosen: Labels) -> Any:
    """Return what a file says of its video.

    Args:
        kind: of the labels.
        content: of the file.
        name: of the file.
        chosen: the configured keys.

    Raises:
        Unusable: it says nothing, or is wrong.
    """
    if not content.strip():
        raise Unusable("the file is empty")
    try:
        lines = split(content, "")
    except Broken as error:
        raise Unusable(str(error).removeprefix(":")) from None
    return FILES[kind].read(lines, name, chosen)


def endings(kinds: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the endings of files beside videos that are labels, where any are asked for."""
    beside = (kind for kind, places in kinds.items() if BESIDE in places)
    return tuple(ending for kind in beside for ending in FILES[kind].endings)


def named(kind: str, name: str) -> list[str]:
    """Return what a file may call its video, its own name without ending first."""
    ending = next(one for one in FILES[kind].endings if name.lower().endswith(one))
    called = name[: -len(ending)]
    if kind == "transcripts" and (code := language(name)):
        return [called, called.removesuffix(f".{code}")]
    return [called]


def is_of(kind: str, name: str) -> bool:
    """Tell whether a file is one of a kind, by its name."""
    lowered = name.lower()
    mine = kind in FILES and lowered.endswith(FILES[kind].endings)
    return mine and (kind == "meta" or not lowered.endswith(INFO))


def language(name: str) -> str | None:
    """Return the code of a language that stands before the ending, as in `talk.en.srt`."""
    code = PurePosixPath(PurePosixPath(name).stem).suffix.removeprefix(".")
    return code if code in WHISPER_LANGUAGES else None
