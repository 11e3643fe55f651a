"""Files with what is said in one video: SRT, WebVTT, and the JSON of Whisper and whisperX."""

import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from spark_trainer.data import manifest
from spark_trainer.data.jsonl import Broken, shown
from spark_trainer.data.plain import lines
from spark_trainer.speech.cues import Cue

CLOCK = r"(?:(\d{1,6}):)?([0-5]?\d):([0-5]\d)[.,](\d{1,3})"
TIMES = re.compile(rf"\s*{CLOCK}\s*-->\s*{CLOCK}(?:\s.*)?")  # VTT's settings may follow
ARROW = "-->"
UNDIVIDED = "expected an empty line before these times"
NO_CUES = ("WEBVTT", "NOTE", "STYLE", "REGION")  # first words of VTT's other blocks

# HTML's tags, VTT's <v Anna> and <00:01.500>, ASS's {\an8} and \N: how it looks, not what is said.
STYLES = re.compile(r"</?[A-Za-z][^<>|]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
BREAKS = re.compile(r"\\[Nnh]|\s+")

Block = list[tuple[int, str]]  # lines with their numbers


def read(path: Path, key: str) -> list[Cue]:
    """Read a file; its ending names the format, one of `FORMATS`.

    Args:
        path: the file.
        key: the setting that names it.

    Raises:
        Broken: something in it is wrong; the message names each place.
        OSError: it can't be read.
    """
    return said(lines(path, key), path.suffix.lower(), f"{key}: {path}")


def said(texts: list[str], ending: str, where: str) -> list[Cue]:
    """Return the cues of a file's lines.

    Args:
        texts: the lines.
        ending: of the file's name, one of `FORMATS`.
        where: what the file is called in messages.

    Raises:
        Broken: as `read`.
    """
    wrong: list[str] = []
    cues = list(FORMATS[ending](texts, where, wrong))
    wrong += [problem for cue in cues for problem in cue.problems()]
    if not cues and not wrong:
        wrong = [f"{where}: nothing is said in it"]
    if wrong:
        raise Broken("\n".join(manifest.some(wrong)))
    return cues


def parsed(text: str, where: str) -> list[Cue]:
    """Return the cues of a text that is SRT or VTT.

    Args:
        text: the whole of it.
        where: what it is called in messages.

    Raises:
        Broken: something in it is wrong; the message names each place.
    """
    wrong: list[str] = []
    cues = list(_cues(text.splitlines(), where, wrong, text.startswith(NO_CUES[0])))
    wrong += [problem for cue in cues for problem in cue.problems()]
    if wrong:
        raise Broken("\n".join(manifest.some(wrong)))
    return cues


def spelled(cues: Iterable[Cue]) -> str:
    """Return cues as SRT."""
    timed = ((cue.start or 0.0, cue.end or 0.0, cue.text) for cue in cues)
    blocks = (
        f"{number}\n{spelled_clock(start)} {ARROW} {spelled_clock(end)}\n{text}\n"
        for number, (start, end, text) in enumerate(timed, start=1)
    )
    return "\n".join(blocks)


def plain(text: str) -> str:
    """Return a subtitle without styles, on one line."""
    return BREAKS.sub(" ", html.unescape(STYLES.sub("", text))).strip()


def _cues(texts: list[str], where: str, wrong: list[str], vtt: bool = False) -> Iterator[Cue]:
    """Yield the cues of SRT or VTT that have a text, and note blocks that are no cues."""
    for block in _blocks(texts):
        first = block[0][1]
        if vtt and first.split()[0] in NO_CUES:
            timed = [number for number, line in block if TIMES.fullmatch(line)]
            wrong += (f"{where}:{number}: {UNDIVIDED}" for number in timed)
            continue
        # By its number, or any name in VTT.
        named = ARROW not in first and len(block) > 1 and ARROW in block[1][1]
        number, line = block[named]
        times = TIMES.fullmatch(line)
        inside = [n for n, line in block[named + 1 :] if ARROW in line]
        place = f"{where}:{number}"
        if times is None:
            wrong.append(
                f"{place}: expected times such as 00:00:01.000 --> 00:00:02.500 (got {shown(line)})"
            )
        elif inside:
            wrong.append(f"{where}:{inside[0]}: {UNDIVIDED}")
        elif text := plain(" ".join(line for _, line in block[named + 1 :])):
            yield Cue(place, text, _clock(*times.groups()[:4]), _clock(*times.groups()[4:]))


def _blocks(texts: list[str]) -> Iterator[Block]:
    """Yield the lines between empty lines."""
    block: Block = []
    for number, line in enumerate(texts, start=1):
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _clock(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    """Return the seconds of a time."""
    whole = 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds)
    return round(whole + float(f"0.{fraction}"), 3)


def spelled_clock(seconds: float, point: str = ",") -> str:
    """Return a time as SRT has it, or VTT, whose `point` is a dot."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}{point}{milliseconds:03d}"


def _json(texts: list[str], where: str, wrong: list[str]) -> Iterator[Cue]:
    """Yield the segments of a transcript as `whisper` and `whisperx` write it."""
    try:
        # Whole numbers as others: Python reads none of more than 4300 digits.
        said = json.loads("\n".join(texts), parse_int=float)
    except (json.JSONDecodeError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Broken(f"{where}{line}: no JSON: {error}") from None
    segments = said.get("segments") if isinstance(said, dict) else None
    if not isinstance(segments, list):
        raise Broken(f"{where}: expected a mapping with a list of segments")
    language = said.get("language")
    if not isinstance(language, str | None):
        raise Broken(
            f"{where}: language: expected a code that Whisper knows (got {shown(language)})"
        )
    for number, segment in enumerate(segments):
        place = f"{where}: segments[{number}]"
        if not _is_segment(segment):
            wrong.append(f"{place}: expected text, start and end (got {shown(segment)})")
        elif text := segment["text"].strip():
            yield Cue(place, text, segment["start"], segment["end"], language)


def _is_segment(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("text"), str)
        and isinstance(value.get("start"), float)
        and isinstance(value.get("end"), float)
    )


FORMATS: dict[str, Callable[[list[str], str, list[str]], Iterator[Cue]]] = {
    ".srt": _cues,
    ".vtt": partial(_cues, vtt=True),
    ".json": _json,
}
