"""The sound track of a video as a WAV file on the video's own clock."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from spark_trainer.config import Audio
from spark_trainer.data.files import replacing
from spark_trainer.data.layout import Layout, Video
from spark_trainer.errors import Refused
from spark_trainer.steps import Context, Facts, shard
from spark_trainer.steps.device import Wanted
from spark_trainer.workers import Limits, Workers

VERSION = 3
TRACKS, WRITE = "spark_trainer.media.sound:tracks", "spark_trainer.media.sound:write_wav"
UPSTREAM = ()
SETTINGS = Audio


def wanted(settings: Audio) -> Wanted:
    """Decoding runs on the CPU."""
    return "cpu"


def identity(settings: Audio, cache: Path) -> None:
    """Nothing but the settings decides the audio."""


def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
    """The WAV file, where there is sound, and those of the other tracks that are kept."""
    others = [layout.track(video, other["track"]) for other in record.get("others", ())]
    return ([layout.audio(video)] if record.get("status") == "ok" else []) + others


def produce(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Extract the audio of each video, one process per core."""
    settings: Audio = context.settings
    limits = Limits(settings.max_cpu_s, settings.max_memory_gb)
    with Workers(min(context.workers, len(videos)), limits, "audio") as workers:
        yield from shard.each(partial(_extract, workers), videos, context)


def _extract(workers: Workers, video: Video, context: Context) -> Facts:
    settings: Audio = context.settings
    source = shard.source(context.layout, video)
    for old in (context.layout.audio(video), *context.layout.tracks(video)):
        old.unlink(missing_ok=True)
    try:
        tracks: list[Facts] = workers.call(TRACKS, str(source))
    except Refused as error:
        return {"status": "rejected", "reason": str(error)}
    if not tracks:
        return {"status": "none", "why": "no audio stream"}
    chosen = choose(tracks, settings.track)
    if chosen is None:
        return {"tracks": tracks} | _absent(tracks, settings.track)
    write = partial(_track, workers, source, settings)
    facts = {"tracks": tracks} | write(chosen, context.layout.audio(video))
    others = [track for track in tracks if track != chosen] if settings.other_tracks else []
    found = [write(other, context.layout.track(video, other["track"])) for other in others]
    shard.source(context.layout, video)  # still the file that was indexed
    if settings.other_tracks:
        facts["others"] = [other for other in found if other["status"] == "ok"]
    return facts


def _absent(tracks: list[Facts], wanted: str | int) -> Facts:
    """What is recorded where the file lacks the track that was asked for."""
    has: str | int = len(tracks)
    if isinstance(wanted, str):
        has = ", ".join(track["language"] or "a track without a language" for track in tracks)
    return {
        "status": "none",
        "why": f"no audio track {wanted}",
        "reason": f"audio.track is {wanted}, the file has {has}",
    }


def _track(workers: Workers, source: Path, settings: Audio, track: Facts, target: Path) -> Facts:
    """Write one track as a WAV file and say what it is."""
    asked = settings.sample_rate, settings.channels, settings.max_silence_s
    try:
        with replacing(target) as temporary:
            heard: Facts = workers.call(WRITE, str(source), track["track"], str(temporary), *asked)
    except Refused as error:
        return {"status": "none", "why": str(error), "reason": str(error)}
    facts = {"codec": track["codec"], "track": track["track"], "track_language": track["language"]}
    reason = {"reason": f"damaged: {heard['damaged']}"} if "damaged" in heard else {}
    return {"status": "ok"} | heard | facts | reason


def choose(tracks: list[Facts], wanted: str | int) -> Facts | None:
    """The track that `audio.track` asks for, if it is there.

    `default`: the one flagged so, else the first. A number: that one. A language: as `default`,
    among the tracks of that language.
    """
    if isinstance(wanted, int):
        return next((track for track in tracks if track["track"] == wanted), None)
    if wanted != "default":
        tracks = [track for track in tracks if track["language"] == wanted]
    return next((track for track in tracks if track["default"]), tracks[0] if tracks else None)
