"""The transcripts that the user has already, in files that `labels.transcripts` names; no model."""

from collections.abc import Mapping
from typing import Any

from spark_trainer.data import manifest
from spark_trainer.data.jsonl import Broken
from spark_trainer.speech import subtitles
from spark_trainer.speech.cues import Cue

NONE = "no transcript is given"


def cues(said: Mapping[str, Any], place: str) -> list[Cue]:
    """Return what is said, from a label as `data.labels.contents` has it.

    Args:
        said: the label.
        place: where it stands, for messages.

    Raises:
        Broken: something in it is wrong; the message names each place.
    """
    if "ending" in said:
        found = subtitles.said(str(said["text"]).split("\n"), said["ending"], place)
        return [_of_language(cue, said["language"]) for cue in found]
    found = [Cue(place, **{**one, "text": subtitles.plain(one["text"])}) for one in said["cues"]]
    if wrong := [problem for cue in found for problem in cue.problems()]:
        raise Broken("\n".join(manifest.some(wrong)))
    return sorted(found, key=lambda cue: cue.start or 0.0)


def _of_language(cue: Cue, language: str | None) -> Cue:
    return Cue(cue.place, cue.text, cue.start, cue.end, language or cue.language)
