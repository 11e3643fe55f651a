"""What SRT and VTT have in common."""

import html
from collections.abc import Callable, Iterable, Iterator, Sequence

from spark_trainer.exports.base import Format
from spark_trainer.exports.clips import Clip
from spark_trainer.exports.dataset import DataSet
from spark_trainer.speech.cues import Cue
from spark_trainer.speech.subtitles import ARROW, spelled_clock

Spelling = Callable[[Sequence[Cue]], str]


def of(ending: str, spelling: Spelling, read_by: str) -> Format:
    """Return a format of subtitles, a file for each video.

    Args:
        ending: of the files' names.
        spelling: of a file's cues.
        read_by: who reads them.
    """

    def write(data: DataSet) -> None:
        for split in data.splits:
            for clip in data.clips(split):
                data.place(clip)
                said = list(cues(clip, data.settings.each_word))
                data.write(f"{split}/{clip.name}.{ending}", spelling(said))

    def loading(data: DataSet) -> str:
        return f"Each folder, such as `{data.splits[0]}`, holds the `.{ending}` files of a split."

    return Format(
        read_by=read_by,
        media=("none", "link", "copy"),
        spoken=True,
        options=("each_word",),
        write=write,
        loading=loading,
    )


def cues(clip: Clip, each_word: bool) -> Iterator[Cue]:
    """Yield what is said in a video, by segments or by words where their times are known."""
    for segment in clip.meta["segments"]:
        for one in (each_word and segment.get("words")) or [segment]:
            # An empty line would end a cue, and an arrow begin one.
            text = " ".join((one.get("text") or "").split()).replace(ARROW, "->")
            if text:
                yield Cue("", text, one["start"], one["end"])


def as_vtt(said: Iterable[Cue]) -> str:
    """Return cues as WebVTT, where `&` and `<` have a meaning."""
    blocks = (
        f"{spelled_clock(cue.start or 0.0, '.')} --> {spelled_clock(cue.end or 0.0, '.')}\n"
        f"{html.escape(cue.text, quote=False)}\n"
        for cue in said
    )
    return "\n".join(["WEBVTT\n", *blocks])
