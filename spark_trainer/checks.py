"""What a build needs: FFmpeg, the GPUs, and a manifest that is what it says."""

import sys
from collections.abc import Iterator
from pathlib import Path

from spark_trainer import ffmpeg, gpu
from spark_trainer.config import Config, ConfigError
from spark_trainer.data import manifest
from spark_trainer.data.files import file_digest
from spark_trainer.data.layout import Layout
from spark_trainer.train import zero

DECODERS = {"h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "aac", "mp3", "opus", "pcm_s16le"}


def run(config: Config, manifest_path: Path | None) -> int:
    """Check everything and print a line for each finding.

    Args:
        config: the validated configuration.
        manifest_path: the manifest to check; without it the configured one, if it is there.

    Returns:
        0 if all that is required holds, else 1.
    """
    layout = Layout(Path(config.output_dir))
    wrong = [*_ffmpeg(), *_gpus(config)]
    path = manifest_path or layout.manifest
    if path.exists():
        wrong += _manifest(path)
    elif manifest_path:
        wrong.append(f"no such manifest: {manifest_path}")
    else:
        _say("manifest", f"not built yet ({path})")
    for line in wrong:
        _say("WRONG", line)
    _say("result", f"{len(wrong)} problems" if wrong else "all that is required holds")
    return 1 if wrong else 0


def _ffmpeg() -> Iterator[str]:
    try:
        _say("ffmpeg", f"{ffmpeg.version()} ({ffmpeg.binary()})")
    except (RuntimeError, OSError) as error:
        yield f"ffmpeg: {error}"
        return
    missing = sorted(DECODERS - ffmpeg.codecs())
    _say("codecs", f"{len(ffmpeg.codecs())} decoders, missing: {', '.join(missing) or 'none'}")
    if missing:
        yield f"ffmpeg can't decode {', '.join(missing)}"


def _gpus(config: Config) -> Iterator[str]:
    devices = gpu.devices()
    for device in devices:
        _say("cuda", str(device))
    if not devices:
        _say("cuda", "no GPU")
    for holder in gpu.holders():
        _say("lease", str(holder))
    for name, run in config.runs.items():
        if len(devices) < run.min_gpus or not (devices or run.allow_cpu):
            needed = max(1, run.min_gpus)
            yield f"train run {name} needs {needed} GPUs, {len(devices)} are here"
        if run.use_deepspeed:
            try:
                zero.read(run, f"train.runs.{name}")
            except ConfigError as error:
                yield str(error)


def _manifest(path: Path) -> Iterator[str]:
    """Lines, files, and that each entry's source still has the entry's hash; a few of each."""
    layout = Layout(path.parent)
    try:
        wrong = manifest.some(manifest.problems(path))
        yield from wrong
        if not wrong:
            yield from manifest.some(_changed(path, layout))
        for entry in manifest.rejected(layout.rejected):
            _say("rejected", f"{entry.get('source_path')}: {entry.get('reason')}")
    except OSError as error:
        yield f"{path}: {error.strerror}"
    except manifest.Broken as error:
        yield str(error)


def _changed(path: Path, layout: Layout) -> Iterator[str]:
    count = 0
    for entry in manifest.read(path):
        count += 1
        link = layout.source(entry["id"])
        if link.is_symlink() and link.exists() and file_digest(link) != entry["id"]:
            yield f"{link.resolve()}: the content is no longer {entry['id']}"
    _say("manifest", f"{path}: {count} videos")
    if not count:
        yield f"{path}: no video to train on"


def _say(name: str, text: str) -> None:
    print(f"{name:>10}  {text}", file=sys.stdout)
