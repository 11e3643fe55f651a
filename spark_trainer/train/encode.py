"""The `encode` step: frozen encoders see each clip and each text once, before any training."""

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spark_trainer.config import Run
from spark_trainer.data import encoded, joining
from spark_trainer.data.files import sweep, write_json
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.data.sample import Unusable
from spark_trainer.data.samples import Samples
from spark_trainer.errors import ABSENT, MachineError, of_machine, told
from spark_trainer.runs.spec import RunSpec
from spark_trainer.steps import runner
from spark_trainer.steps.base import Context, Step
from spark_trainer.steps.device import asked, device
from spark_trainer.steps.parallel import each, trouble
from spark_trainer.steps.record import Record
from spark_trainer.system import environment, gpu, log
from spark_trainer.train.launch import LaunchError

if TYPE_CHECKING:
    from spark_trainer.families.kinds.base import Kind
    from spark_trainer.families.kinds.loading import Loaded

# What a file is made of: a text, or a sample of a part of the data; or why it can't be made.
Source = str | tuple[Samples, int] | Unusable
Taken = dict[Path, Source]  # the files that a run takes of a video


def gpus(spec: RunSpec, local: bool) -> int:
    """GPUs that the step's job asks Snakemake for."""
    return asked("auto" if spec.settings.allow_cpu else "cuda", 1.0, local)


def run(
    spec: RunSpec, data: Path, granted_gpus: int, threads: int, marker: Path | None = None
) -> dict[str, int]:
    """Keep what a run takes of some data: every variant of training clips, and what is held out.

    Files are written one by one, so a killed job loses only the clips that it had in hand.

    Args:
        spec: a run; what others with its encoders and settings take is the same.
        data: a shard's part of the manifest, or a given manifest.
        granted_gpus: GPUs that may be used, as Snakemake counted them.
        threads: cores that may be used.
        marker: written last, when all that it speaks of is on disk.

    Returns:
        Counts of videos by what became of them.

    Raises:
        LaunchError: no GPU where one is asked for, or the pipeline or the data can't be used.
        OSError: the machine failed.
    """
    import torch

    from spark_trainer.train import setup

    torch.set_num_threads(threads)
    try:
        family = setup.find(spec.settings)
        settings = family.completed(spec.settings)
        with tempfile.TemporaryDirectory() as folder:
            taken = _taken(spec, settings, family, _collected(spec, data, Path(folder)))
            step = EncodeStep(family, spec.encode_fingerprint, taken)
            own = settings.num_workers
            # One thread encodes while the others read samples.
            workers = 1 + (own if isinstance(own, int) else threads)
            context = Context(Layout(spec.encoded), settings, workers, granted_gpus)
            shard = Shard("", tuple(taken))
            return runner.Job(step, spec.encode_fingerprint, shard, context).run(marker)
    except (OSError, ValueError) as error:
        if of_machine(error) and not isinstance(error, ABSENT):
            raise
        raise LaunchError(f"encode: {error}") from error


@dataclass(frozen=True, kw_only=True)
class EncodeRecord(Record):
    """`files` are what a run takes of a video, relative to the folder of the encoders."""

    files: Sequence[str] = ()


class EncodeStep(Step[Run, EncodeRecord]):
    """What frozen encoders make of a video's clips and texts.

    Its results lie below the folder of the encoders as other steps' lie below `output_dir`. A file
    is named by all that its content follows from, so no marker over it ever becomes untrue, and the
    runner finds none there to withdraw.
    """

    VERSION = encoded.VERSION
    SETTINGS = Run
    RECORD = EncodeRecord
    UPHELD = False
    upstream = ()  # what it reads stands in the manifest
    _loaded: "Loaded"  # while something is due

    def __init__(self, family: "Kind", fingerprint: str, taken: Mapping[Video, Taken]) -> None:
        super().__init__("encode")
        self._family, self._fingerprint, self._taken = family, fingerprint, taken
        self._lock, self._unforeseen = threading.Lock(), list[str]()
        self._due = dict[Video, Taken]()  # what is not there yet

    def path(self, layout: Layout, video: Video) -> Path:
        """Name the record after the settings: runs with others take other clips."""
        return layout.record(video, self._fingerprint)

    def files(self, layout: Layout, video: Video, record: EncodeRecord) -> list[Path]:
        """Name what the run takes of the video now, and what it took when that was recorded."""
        return [*self._taken[video], *(layout.root / name for name in record.files)]

    def produce(
        self, videos: list[Video], context: Context[Run]
    ) -> Iterator[tuple[Video, EncodeRecord]]:
        """Encode what is not there yet.

        Raises:
            ValueError: nothing could be encoded, and nobody foresaw why.
        """
        self._due = {video: self._missing(video) for video in videos}
        made = [one for taken in self._due.values() for one in taken.items()]
        for folder in {path.parent for path, _ in made}:
            sweep(folder)  # what dead jobs left beside texts
        due = sum(not isinstance(source, Unusable) for _, source in made)
        with ExitStack() as held:
            if due:
                self._loaded = held.enter_context(_encoders(self._family, context))
            yield from each(self, self._encode, videos, context)
        if len(self._unforeseen) == due > 1:
            raise ValueError(f"nothing could be encoded; the first: {self._unforeseen[0]}")

    def _missing(self, video: Video) -> Taken:
        """Return what is to be made of a video: what is not there, or damaged."""
        found = {}
        for path, source in self._taken[video].items():
            if not encoded.whole(path):
                found[path] = source
                if path.exists():
                    log.logger.warning("encode: %s is damaged, it is made again", path)
        return found

    def _encode(self, video: Video, context: Context[Run]) -> EncodeRecord:
        """Encode what is not there of one video."""
        said = {path: self._tried(path, source) for path, source in self._due[video].items()}
        worst = min(said.values(), key=lambda one: (one.settled, one.ok), default=EncodeRecord())
        reasons = [one.reason for one in said.values() if one.status is worst.status]
        root, lacking = context.layout.root, {path for path, one in said.items() if not one.ok}
        return replace(
            worst,
            reason="; ".join(filter(None, dict.fromkeys(reasons))) or None,
            files=sorted(
                path.relative_to(root).as_posix() for path in self._taken[video].keys() - lacking
            ),
        )

    def _tried(self, path: Path, source: Source) -> EncodeRecord:
        """Write a file, or say why not."""
        try:
            self._write(path, source)
        except Unusable as reason:
            return EncodeRecord.rejected(str(reason))
        except MachineError as error:  # of the disk: there is no trace to look at
            return EncodeRecord.failed(str(error))
        except RuntimeError as error:  # of the device; its other errors can't be told from a clip's
            log.logger.error("%s", path.name, exc_info=error)
            return EncodeRecord.failed(told(error))
        except Exception as error:
            said = trouble(self, error)
            named = f"{path.name}: {said.reason}"
            self._unforeseen += [named] if said.settled else []
            return replace(said, reason=named)
        return EncodeRecord()

    def _write(self, path: Path, source: Source) -> None:
        if isinstance(source, Unusable):
            raise source
        if isinstance(source, str):
            with self._lock:
                if not encoded.whole(path):  # another video has the same text
                    encoded.write(path, self._family.encode_text(self._loaded, source))
            return
        samples, number = source
        shown = samples.read(samples.encoded_plan(number))
        with self._lock:
            encoded.write(path, self._family.encode_sample(self._loaded, shown))


def _collected(spec: RunSpec, data: Path, folder: Path) -> Path:
    """Write the manifest's lines of some data; returns the file."""
    target, parts = folder / "accepted.jsonl", folder / "parts.json"
    write_json(parts, [[str(data), None]])
    listed = parts if spec.index else data
    joining.collect(listed, spec.index, target, folder / "refused.jsonl")
    return target


def _taken(spec: RunSpec, run: Run, family: "Kind", manifest: Path) -> dict[Video, Taken]:
    """Plan what a run takes of each video, trained on or held out."""
    taken: dict[Video, Taken] = {}
    kept = spec.encoded_files
    splits = family.splits(manifest, spec.data_root, run)
    for samples in (splits["train"], splits["validation"]):
        for number in range(samples.num_encoded):
            name = samples.video(number)
            files = taken.setdefault(Video(name, f"{name[:2]}/{name}"), {})
            try:
                plan = samples.encoded_plan(number)
                files.setdefault(family.encoded_file(kept, samples, plan, run), (samples, number))
            except Unusable as reason:
                files[spec.encoded / str(number)] = reason  # is never there, so each job names it
                continue
            files |= {kept.text(text): text for text in family.encoded_texts(plan, run)}
    return taken


@contextmanager
def _encoders(family: "Kind", context: Context[Run]) -> "Iterator[Loaded]":
    """Load the encoders where they are to run, for a while."""
    import torch

    environment.quiet_libraries()
    with _place(context.settings, context.gpus) as place:
        yield family.load_encoders(context.settings, torch.device(place))


@contextmanager
def _place(run: Run, granted: int) -> Iterator[str]:
    """Hold the device on which the encoders run."""
    if granted and gpu.visible():
        with device("train", "cuda", 1.0, granted, "encode") as place:
            yield place
    elif run.allow_cpu:
        log.logger.warning("encode on the CPU: no GPU, and train.allow_cpu is true")
        yield "cpu"
    else:
        why = "Snakemake granted none" if gpu.visible() else "there is none here"
        raise ValueError(f"train.allow_cpu: false, but no GPU: {why}; expected true then")
