"""The sound track of a video as a WAV file on the video's own clock."""

from collections.abc import Iterator
from pathlib import Path

from spark_trainer import ffmpeg
from spark_trainer.config import Audio
from spark_trainer.data.files import replacing
from spark_trainer.data.layout import Layout, Video
from spark_trainer.steps import Context, Facts, shard
from spark_trainer.steps.device import Wanted

VERSION = 2
UPSTREAM = ()
SETTINGS = Audio


def wanted(settings: Audio) -> Wanted:
    """FFmpeg runs on the CPU."""
    return "cpu"


def identity(settings: Audio, cache: Path) -> None:
    """Nothing but the settings decides the audio."""


def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
    """The WAV file, where there is sound, and those of the other tracks that are kept."""
    others = [layout.track(video, other["track"]) for other in record.get("others", ())]
    return ([layout.audio(video)] if record.get("status") == "ok" else []) + others


def produce(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Extract the audio of each video, one FFmpeg process per core."""
    return shard.each(_extract, videos, context)


def _extract(video: Video, context: Context) -> Facts:
    settings: Audio = context.settings
    source = shard.source(context.layout, video)
    for old in (context.layout.audio(video), *context.layout.tracks(video)):
        old.unlink(missing_ok=True)
    try:
        probe = ffmpeg.probe(source)
    except ffmpeg.MediaError as error:
        return {"status": "rejected", "reason": str(error)}
    if not probe.audio:
        return {"status": "none", "why": "no audio stream"}
    listed = {"tracks": [_listed(track) for track in probe.audio]}
    chosen = choose(probe.audio, settings.track)
    if chosen is None:
        return listed | _absent(probe.audio, settings.track)
    facts = listed | _track(source, context.layout.audio(video), chosen, probe, settings)
    if not settings.other_tracks:
        return facts
    found = [
        _track(source, context.layout.track(video, track.number), track, probe, settings)
        for track in probe.audio
        if track != chosen
    ]
    return facts | {"others": [other for other in found if other["status"] == "ok"]}


def _listed(track: ffmpeg.AudioTrack) -> Facts:
    return {
        "track": track.number,
        "codec": track.codec,
        "language": track.language,
        "default": track.default,
    }


def _absent(tracks: tuple[ffmpeg.AudioTrack, ...], wanted: str | int) -> Facts:
    """What is recorded where the file lacks the track that was asked for."""
    has: str | int = len(tracks)
    if isinstance(wanted, str):
        has = ", ".join(track.language or "a track without a language" for track in tracks)
    return {
        "status": "none",
        "why": f"no audio track {wanted}",
        "reason": f"audio.track is {wanted}, the file has {has}",
    }


def _track(
    source: Path,
    target: Path,
    track: ffmpeg.AudioTrack,
    probe: ffmpeg.Probe,
    settings: Audio,
) -> Facts:
    """Write one track as a WAV file and say what it is."""
    with replacing(target) as temporary:
        result = ffmpeg.run(arguments(source, temporary, track, settings))
        temporary.touch()
    complaint = probe.cut or result.complaint(track.codec, {str(probe.video_codec)})
    duration = _duration(target, settings)
    if duration <= 0:
        target.unlink()
        why = f"no decodable audio: {complaint or 'the audio stream is empty'}"
        return {"status": "none", "why": why, "reason": why}
    facts: Facts = {
        "status": "ok",
        "duration": duration,
        "peak_db": ffmpeg.peak_db(target),
        "codec": track.codec,
        "track": track.number,
        "track_language": track.language,
    }
    return facts | ({"damaged": complaint, "reason": f"damaged: {complaint}"} if complaint else {})


def choose(tracks: tuple[ffmpeg.AudioTrack, ...], wanted: str | int) -> ffmpeg.AudioTrack | None:
    """The track that `audio.track` asks for, if it is there.

    `default`: the one flagged so, else the first. A number: that one. A language: as `default`,
    among the tracks of that language.
    """
    if isinstance(wanted, int):
        return next((track for track in tracks if track.number == wanted), None)
    if wanted != "default":
        tracks = tuple(track for track in tracks if track.language == wanted)
    return next((track for track in tracks if track.default), tracks[0] if tracks else None)


def arguments(source: Path, target: Path, track: ffmpeg.AudioTrack, settings: Audio) -> list[str]:
    """FFmpeg's arguments; `first_pts=0` pads a late track, so times match the frames' times."""
    return [
        *("-threads", "1", "-protocol_whitelist", "file"),
        *("-itsoffset", f"{track.late:.6f}", "-i", f"file:{source}"),
        *("-map", f"0:a:{track.number}", "-af", "aresample=async=1:first_pts=0"),
        *("-ac", str(settings.channels), "-ar", str(settings.sample_rate)),
        *("-c:a", "pcm_s16le", "-fflags", "+bitexact", "-flags", "+bitexact"),
        *("-map_metadata", "-1", "-threads", "1", "-f", "wav", f"file:{target}"),
    ]


def _duration(wav: Path, settings: Audio) -> float:
    """Seconds of sound, from the file's size: the header is 44 bytes."""
    return round((wav.stat().st_size - 44) / (2 * settings.channels * settings.sample_rate), 6)
