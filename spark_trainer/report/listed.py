"""The videos that a manifest lists, found by hash, as the manifest is now."""

import threading
from typing import Any

from spark_trainer.config import Config
from spark_trainer.data import corrections, manifest
from spark_trainer.data.corrected import LEFT_OUT
from spark_trainer.data.corrections import HAND, SPOKEN
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError
from spark_trainer.store.correct import spelled


class Listed:
    """A manifest and its rejected videos, read again when a build has written them anew."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._state: object = None
        self._offsets: dict[str, int] = {}
        self._rejected: dict[str, str] = {}  # hash -> the step that rejected it

    def __contains__(self, video: str) -> bool:
        self._refresh()
        return video in self._offsets or video in self._rejected

    def entry(self, video: str) -> manifest.Entry | None:
        """Return the line of a video; None where the manifest has none, such as of a rejected one.

        Raises:
            UserError: the manifest can't be read.
        """
        self._refresh()
        offset = self._offsets.get(video)
        if offset is None:
            return None
        try:
            found = manifest.entry_at(self._layout.manifest, offset)
        except ValueError:
            return None  # a build writes it anew at this moment
        return found if found.get("id") == video else None

    def now(self, config: Config, video: str) -> dict[str, Any]:
        """Tell what is said of a video now, by hand or else by the last build.

        Returns:
            The text of each kind, None where there is none; a transcript with times as SRT.
            `corrected` has kind -> author and time, `pending` tells whether a build is due.
        """
        meta = (self.entry(video) or {}).get("meta") or {}
        said = corrections.find(config.corrections, video).said
        texts: dict[str, str | None] = {kind: meta.get(kind) for kind in corrections.KINDS}
        texts[SPOKEN] = spelled(meta.get(SPOKEN) or "", meta.get("segments"))
        for kind, one in said.items():
            told = one.model_dump(mode="json")
            texts[kind] = spelled(told["text"], told.get("segments"))
        signed = {kind: {"author": one.author, "time": one.time} for kind, one in said.items()}
        built = {kind: who for kind, who in (meta.get("corrected") or {}).items() if who}
        out = self._rejected.get(video) == HAND
        pending = out != (LEFT_OUT in said) or not (out or signed == built)
        return {"hash": video, **texts, "corrected": signed, "pending": pending}

    def state(self) -> object:
        """Return what is another after a build that wrote something."""
        self._refresh()
        return self._state

    def _refresh(self) -> None:
        files = self._layout.manifest, self._layout.rejected
        with self._lock:
            try:
                found = [path.stat() for path in files if path.exists()]
                state = [(one.st_ino, one.st_size, one.st_mtime_ns) for one in found]
                if state != self._state:
                    lines = manifest.lines(self._layout.manifest)
                    self._offsets = {str(line.entry["id"]): line.offset for line in lines}
                    gone = manifest.rejected(self._layout.rejected)
                    self._rejected = {str(one.get("id")): str(one.get("step")) for one in gone}
                    self._state = state
            except FileNotFoundError:
                raise UserError("no manifest; `spark-trainer manifest` builds it") from None
