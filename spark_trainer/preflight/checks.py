"""The checks of `validate`: what a build needs, and whether manifests are right."""

import sys
from collections.abc import Iterator
from pathlib import Path

from spark_trainer.config import Config
from spark_trainer.data import jsonl, manifest
from spark_trainer.data.files import file_digest
from spark_trainer.data.layout import Layout
from spark_trainer.preflight import needs
from spark_trainer.system import gpu, log


def run(config: Config, manifest_path: Path | None, deep: bool = False) -> int:
    """Check everything and print a line for each finding.

    Args:
        config: the validated configuration.
        manifest_path: the manifest to check; without it the configured one, if it is there.
        deep: leave the videos of the configured store to `store.deep`, which reads them as well.

    Returns:
        0 if all that is required holds, else 1.
    """
    layout = Layout(Path(config.output_dir))
    due = needs.everything(config)
    _show_machine()
    wrong = []
    for name, check in needs.CHECKS.items():
        found = list(check(config, due))
        _say(name, "fine" if not found else f"{len(found)} wrong")
        wrong += found
    absent = [folder for folder in config.video_dirs if due.steps and not folder.exists()]
    wrong += [f"video_dir: no such folder: {folder}" for folder in absent]
    given = {Path(run.manifest_path) for run in config.runs.values() if run.manifest_path}
    for path in sorted(given) if manifest_path is None else ():
        wrong += _manifest(path) if path.is_file() else ()
    path = manifest_path or layout.manifest
    if path.is_file():
        wrong += _manifest(path, read=not deep or path != layout.manifest)
    elif manifest_path:
        wrong.append(f"no such manifest: {manifest_path}")
    else:
        _say("manifest", f"not built yet ({path})")
    for line in wrong:
        _say("WRONG", line)
    _say("result", f"{len(wrong)} problems" if wrong else "all that is required holds")
    return 1 if wrong else 0


def _show_machine() -> None:
    devices = gpu.devices()
    for device in devices:
        _say("cuda", str(device))
    if not devices:
        _say("cuda", "no GPU")
    for holder in gpu.holders():
        _say("lease", str(holder))


def _manifest(path: Path, read: bool = True) -> Iterator[str]:
    """Check the lines and files of a manifest, and that each source still has its entry's hash."""
    layout = Layout(path.parent)
    try:
        wrong = manifest.some(manifest.problems(path))
        yield from wrong
        if not wrong:
            yield from manifest.some(_changed(path, layout, read))
        for entry in manifest.rejected(layout.rejected):
            _say("rejected", f"{entry.get('source_path')}: {entry.get('reason')}")
    except OSError as error:
        yield f"{path}: {error.strerror}"
    except jsonl.Broken as error:
        yield str(error)


def _changed(path: Path, layout: Layout, read: bool) -> Iterator[str]:
    count = 0
    for entry in manifest.read(path):
        count += 1
        source = layout.located(entry["id"])
        if read and source.is_file() and file_digest(source) != entry["id"]:
            yield f"{source.resolve()}: the content is no longer {entry['id']}"
    _say("manifest", f"{path}: {count} videos")
    if not count:
        yield f"{path}: no video to train on"


def _say(name: str, text: str) -> None:
    line = f"{name:>10}  {log.plain(text)}"
    print(line, file=sys.stdout)
    log.logger.debug("%s", line)
