"""Questions about a manifest's videos, from a file: Video-R1's, LLaMA-Factory's, or a plain one.

An array of objects, or an object on each line:

{"problem", "options", "solution", "problem_type", "path", …}   Video-R1
{"messages" or "conversations", "videos"}                       LLaMA-Factory (ShareGPT)
{"question", "answer", "video", …}                              plain; other keys are kept
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from spark_trainer.data import jsonl, manifest
from spark_trainer.data.jsonl import Broken
from spark_trainer.data.labels.matching import Named
from spark_trainer.data.plain import no_text
from spark_trainer.data.sample import Unusable
from spark_trainer.system import log

ITEMS = "questions"  # of `meta`
PATHS = ("path", "video", "videos")  # of a row
HEAD = 4096  # bytes in which an array has begun
TAGS = re.compile(r"</?answer>")
ASKS, ANSWERS = ("user", "human"), ("assistant", "gpt")


class Question(NamedTuple):
    """A question as an item of `meta.questions`, and the path of its video as the file has it."""

    path: str
    item: dict[str, Any]


def join(file: Path, own: Path, max_bad: float) -> None:
    """Put questions into a run's own manifest, which keeps the videos that any are about.

    Rows that can't be read are named in the log; rows about other videos, and videos that nobody
    asks about, are counted there.

    Args:
        file: the questions.
        own: the manifest, which is written anew.
        max_bad: share of rows that may be bad.

    Raises:
        Broken: the file holds no rows, more of them are bad, or none is about a video here.
        OSError: it can't be read.
    """
    videos, count = _named(own)
    found: dict[str, list[dict[str, Any]]] = {}
    bad: list[str] = []
    total = elsewhere = 0
    for where, row in rows(file):
        total += 1
        try:
            question = parsed(row)
            video = None if question is None else videos.find(question.path)
        except Unusable as error:
            bad.append(f"{where}: {error}")
            continue
        if question is None or video is None:
            elsewhere += 1
        else:
            found.setdefault(video, []).append(question.item)
    if len(bad) > max_bad * total:
        listed = "\n".join(manifest.some(bad))
        raise Broken(
            f"train.max_left_out: {len(bad)} of {total} rows of train.text.questions can't be "
            f"used:\n{listed}"
        )
    if not found:
        raise Broken(f"train.text.questions: {file}: no row is about a video of {own}")
    for line in manifest.some(bad):
        log.logger.warning("left out of train.text.questions: %s", line)
    kept = sum(map(len, found.values()))
    text = "%s: %d questions about %d videos, %d rows about none of them; %d videos are not asked"
    log.logger.info(text, file, kept, len(found), elsewhere, count - len(found))
    manifest.write(own, _asked(own, found))


def _asked(own: Path, found: Mapping[str, list[dict[str, Any]]]) -> Iterator[manifest.Entry]:
    for entry in manifest.read(own):
        if entry["id"] in found:
            yield entry | {"meta": entry["meta"] | {ITEMS: found[entry["id"]]}}


def rows(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield each row of a file, and where it stands: `file[17]` of an array, `file:17` of lines.

    A line that holds no object comes as the error that says so.

    Raises:
        Broken: it is neither an array nor lines of JSON.
        OSError: it can't be read.
    """
    with open(file, "rb") as opened:
        head = opened.read(HEAD).removeprefix(jsonl.UTF8)
    if not head.lstrip().startswith(b"["):
        for number, _, line in jsonl.texts(file):
            try:
                yield f"{file}:{number}", jsonl.parsed(line)
            except ValueError as error:
                yield f"{file}:{number}", error
        return
    try:
        listed = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Broken(f"{file}: no JSON: {error}") from None
    yield from ((f"{file}[{place}]", row) for place, row in enumerate(listed))


def parsed(row: Any) -> Question | None:
    """Return the question that a row asks; None where it is about an image.

    Raises:
        Unusable: it asks none.
    """
    if isinstance(row, ValueError):
        raise Unusable(str(row))
    if not isinstance(row, dict):
        raise Unusable(f"expected an object (got {jsonl.shown(row)})")
    if row.get("data_type") == "image" or (row.get("images") and not row.get("videos")):
        return None
    if "problem" in row:
        item = _of_video_r1(row)
    elif said := row.get("messages") or row.get("conversations"):
        item = _of_exchange(said)
    elif "question" in row:
        item = {key: value for key, value in row.items() if key not in PATHS}
    else:
        raise Unusable("expected one of the keys problem, messages, conversations and question")
    for key in ("question", "answer"):
        if item.get(key) in (None, ""):
            raise Unusable(f"without {key}")
    try:
        json.dumps(item, allow_nan=False)
    except ValueError:
        raise Unusable("NaN is no number; expected null") from None
    if sign := no_text(item):
        raise Unusable(f"it holds {sign}, which is no character of a text")
    return Question(_path(row), item)


def _of_video_r1(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a problem with its options below it, as Video-R1 asks it."""
    options, problem = row.get("options") or [], row["problem"]
    solution = row.get("solution", row.get("answer"))
    if not isinstance(problem, str) or not isinstance(solution, str | int | float):
        raise Unusable("expected texts as problem and solution")
    if not isinstance(options, list) or not all(isinstance(one, str) for one in options):
        raise Unusable("options: expected a list of texts")
    answer = TAGS.sub("", str(solution)).strip()
    item: dict[str, Any] = {"question": problem.strip(), "answer": answer}
    if options:
        item |= {"question": "\n".join([problem.strip(), "Options:", *options]), "options": options}
    if kind := row.get("problem_type"):
        item["problem_type"] = kind
    return item


def _of_exchange(said: Any) -> dict[str, Any]:
    """Return the one question and answer of an exchange; what the system says is left out."""
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise Unusable("expected a list of messages")
    turns = [
        (one.get("role", one.get("from")), one.get("content", one.get("value"))) for one in said
    ]
    turns = [turn for turn in turns if turn[0] != "system"]
    if len(turns) != 2 or turns[0][0] not in ASKS or turns[1][0] not in ANSWERS:
        roles = ", ".join(str(role) for role, _ in turns)
        raise Unusable(f"expected one question of the user and one answer (got {roles})")
    texts = [text for _, text in turns]
    if not all(isinstance(text, str) for text in texts):
        raise Unusable("expected texts as messages")
    return {"question": texts[0].replace("<video>", "").strip(), "answer": texts[1].strip()}


def _path(row: Mapping[str, Any]) -> str:
    """Return the path of a row's one video."""
    named = next((row[key] for key in PATHS if row.get(key)), None)
    paths = named if isinstance(named, list) else [named]
    if len(paths) != 1 or not isinstance(paths[0], str):
        raise Unusable(f"expected the path of one video (got {jsonl.shown(named)})")
    return paths[0]


def _named(own: Path) -> tuple[Named, int]:
    """Find the names of a manifest's videos, and count these."""
    names, count = list[tuple[str, str]](), 0
    for entry in manifest.read(own):
        count += 1
        meta, video = entry["meta"], entry["id"]
        every = [*(meta.get("sources") or ()), meta.get("source_path") or video]
        names += ((video, name) for name in every)
    return Named(names, whole=False), count
