"""Correcting a video by hand: what a command or the page asks for becomes a file of corrections."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_trainer.config import Config, ConfigError
from spark_trainer.data import corrections, forgotten
from spark_trainer.data.corrections import KINDS, SPOKEN, Correction
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError
from spark_trainer.speech import subtitles
from spark_trainer.speech.cues import Cue
from spark_trainer.system import environment


@dataclass(frozen=True)
class Editor:
    """Whoever corrects the videos of a store."""

    config: Config
    author: str

    @property
    def layout(self) -> Layout:
        """Return the store."""
        return Layout(Path(self.config.output_dir))

    def correct(self, video: str, said: Mapping[str, Any]) -> Correction:
        """Write what is said of a video; what is not spoken of stays.

        Args:
            video: its hash.
            said: kind -> text, or None to take it back. A transcript may be SRT or VTT, whose times
                are kept, or empty where nobody speaks.

        Returns:
            All that is said of the video now.

        Raises:
            ConfigError: something can't be said so; the message names the kind.
            UserError: the store never held the video, or was told to forget it.
            OSError: it can't be written.
        """
        if video in forgotten.every(self.layout):
            raise UserError(f"{video} is forgotten; nothing is kept of it")
        if not known(self.layout, video):
            raise UserError(f"{video}: no such video here; `spark-trainer manifest` builds it")
        for kind, text in said.items():
            if text is not None and not isinstance(text, str):
                raise ConfigError(f"{kind}: expected text (got {type(text).__name__})")
        made: dict[str, Any] = dict(said)
        if made.get(SPOKEN) is not None:
            made[SPOKEN] = spoken(made[SPOKEN])
        folder = self.config.corrections
        return corrections.edit(folder, self.layout, video, made, self.author)

    def clear(self, video: str, kinds: tuple[str, ...] = KINDS) -> Correction:
        """Take back what was said of a video."""
        return self.correct(video, dict.fromkeys(kinds))


def known(layout: Layout, video: str) -> bool:
    """Tell whether a video was here when the store was built last, or earlier."""
    link = layout.source(video)
    return link.is_symlink() or link.is_file()


def spoken(text: str) -> dict[str, Any]:
    """Return what is said, and its segments where the text has times.

    Raises:
        Broken: the text has times, and is neither SRT nor VTT.
    """
    text = text.replace("\r\n", "\n").strip()
    if subtitles.ARROW not in text:
        return {"text": text}
    cues = subtitles.parsed(text, SPOKEN)
    return timed(cues)


def timed(cues: list[Cue]) -> dict[str, Any]:
    """Return what cues say, as a whole and one by one; without times only as a whole."""
    text = " ".join(cue.text for cue in cues)
    if any(cue.start is None for cue in cues):
        return {"text": text}
    segments = [{"start": cue.start, "end": cue.end, "text": cue.text} for cue in cues]
    return {"text": text, "segments": segments}


def spelled(text: str, segments: list[dict[str, Any]] | None) -> str:
    """Return what is said as `spoken` takes it: as SRT where there are times."""
    if not segments:
        return text
    cues = (Cue("", str(one["text"]).strip(), one["start"], one["end"]) for one in segments)
    return subtitles.spelled(cues)


def author() -> str:
    """Return who sits here: as git knows them, else the user's name."""
    try:
        asked = subprocess.run(
            ["git", "config", "user.name"], capture_output=True, text=True, check=False
        )
        named = asked.stdout.strip()
    except (FileNotFoundError, UnicodeDecodeError):
        named = ""
    return named or environment.user()
