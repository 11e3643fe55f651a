"""From records to a part of the manifest for each shard; `data/joining.py` joins them.

A part is the shard's own marker, so one added video re-reads the records of one shard only.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spark_trainer.data import manifest, parts
from spark_trainer.data.files import digest
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.data.meta import KEYS, filled
from spark_trainer.errors import MachineError
from spark_trainer.steps import Facts
from spark_trainer.steps.promises import settled, withdraw

VERSION = 5


def part(
    layout: Layout, shard: Shard, steps: Iterable[str], fingerprint: str, marker: Path
) -> None:
    """Write the entries of one shard, accepted and rejected, sources still open.

    Raises:
        MachineError: a record, or what it promises, is gone; the next call makes it again.
    """
    withdraw(layout.sealed("manifest"), shard.bits, fingerprint, keep=marker)
    names, entries, gone = tuple(steps), [], []
    for video in shard.videos:
        try:
            entries.append(_entry(layout, video, names))
        except MachineError as error:
            gone.append(str(error))
    if gone:
        raise MachineError(f"manifest: {len(gone)} of {len(shard.videos)} videos: {gone[0]}")
    parts.write(marker, entries)


def seal(index_digest: str, fingerprint: str) -> str:
    """Names one manifest: the state of the video folders and every step's fingerprint."""
    return digest([index_digest, fingerprint])[:16]


def _entry(layout: Layout, video: Video, steps: tuple[str, ...]) -> manifest.Entry:
    """One video's line, or the reason why it has none."""
    records: dict[str, Facts] = {step: settled(layout, video, step) for step in steps}
    for step, record in records.items():
        if record["status"] == "rejected":
            return {"id": video.hash, "step": step, "reason": record["reason"], "meta": {}}
    frames = records.get("frames", {})
    audio = records.get("audio", {})
    return {
        "id": video.hash,
        "frames_dir": f"{video.folder}/frames" if frames else None,
        "audio": f"{video.folder}/audio.wav" if audio.get("status") == "ok" else None,
        "meta": _meta(frames, audio, records.get("transcript", {}), records.get("select", {}))
        | _pose(f"{video.folder}/pose", records.get("pose", {})),
    }


def _meta(frames: Facts, audio: Facts, transcript: Facts, caption: Facts) -> dict[str, Any]:
    """Every documented key but those of `_pose` and of the sources, null where nothing is known."""
    said = {
        "caption": caption.get("caption"),
        "transcript": transcript.get("text"),
        "duration": frames.get("duration", audio.get("duration")),
        "frame_times": frames.get("times"),
        "fps": frames.get("fps"),
        "container_duration": frames.get("container_duration"),
        "container_fps": frames.get("container_fps"),
        "width": frames.get("width"),
        "height": frames.get("height"),
        "dynamic_range": frames.get("dynamic_range"),
        "interlaced": frames.get("interlaced"),
        "motion": frames.get("motion"),
        "damaged": frames.get("damaged") or audio.get("damaged"),
        "no_audio": audio.get("why"),
        "audio_duration": audio.get("duration"),
        "language": transcript.get("language"),
        "segments": transcript.get("segments"),
        "no_transcript": transcript.get("why"),
        "transcriber": transcript.get("backend"),
        "transcriber_model": transcript.get("model"),
        "transcriber_revision": transcript.get("revision"),
        "transcripts": transcript.get("tracks"),
        "captioner": caption.get("backend"),
        "captioner_model": caption.get("model"),
        "captioner_revision": caption.get("revision"),
        "caption_prompt": caption.get("prompt"),
        "no_caption": caption.get("why"),
        "captions": caption.get("captions"),
        "agreement": caption.get("agreement"),
    }
    return {key: filled(value, KEYS[key]) for key, value in said.items()}


def _pose(folder: str, pose: Facts) -> dict[str, Any]:
    """Where the person's skeleton and face lie, and in which frames they are missing."""
    found = pose | {"dir": folder} if pose.get("status") == "ok" else None
    return {"pose": filled(found, KEYS["pose"]), "no_pose": pose.get("why")}
