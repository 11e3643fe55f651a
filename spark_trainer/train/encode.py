"""The `encode` step: frozen encoders see each clip and each text once, before any training."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Run
from spark_trainer.data import dataset, encoded, joining
from spark_trainer.data.dataset import VideoFrameDataset
from spark_trainer.data.encoded import Store
from spark_trainer.data.files import write_json
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.errors import of_machine, unexpected
from spark_trainer.runs.spec import RunSpec
from spark_trainer.steps.device import asked, device
from spark_trainer.system import environment, gpu, log
from spark_trainer.train.launch import LaunchError

if TYPE_CHECKING:
    import torch

    from spark_trainer.families.kinds.base import Kind


def gpus(spec: RunSpec, local: bool) -> int:
    """GPUs that the step's job asks Snakemake for."""
    return asked("auto" if spec.settings.allow_cpu else "cuda", 1.0, local)


def run(spec: RunSpec, data: Path, granted_gpus: int, threads: int) -> dict[str, int]:
    """Keep what a run takes of some data: every variant of training clips, and what is held out.

    Files are written one by one, so a killed job loses only the clip that it had in hand.

    Args:
        spec: a run; what others with its encoders and settings take is the same.
        data: a shard's part of the manifest, or a given manifest.
        granted_gpus: GPUs that may be used, as Snakemake counted them.
        threads: cores that may be used.

    Returns:
        Counts of files: `kept`, which were there, `made`, and `unusable` clips, which have none.

    Raises:
        LaunchError: no GPU where one is asked for, or the pipeline or the data can't be used.
    """
    from spark_trainer.train import setup

    try:
        family = setup.find(spec.settings)
        spec = replace(spec, settings=family.completed(spec.settings))
        with tempfile.TemporaryDirectory() as folder:
            due = _due(spec, family, _collected(spec, data, Path(folder)))
            if due.clips or due.texts:
                with _place(spec.settings, granted_gpus) as place:
                    _encode(due, spec.settings, family, place, threads)
    except (OSError, ValueError) as error:
        raise LaunchError(f"encode: {error}") from error
    counts = {"kept": due.kept, "made": due.made, "unusable": due.unusable}
    log.logger.info("encode: %s", ", ".join(f"{count} {what}" for what, count in counts.items()))
    return counts


@dataclass
class Pending:
    """What is to be made: file -> sample of a part, file -> text; and what became of it."""

    clips: dict[Path, tuple[VideoFrameDataset, int]] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)
    kept: int = 0
    made: int = 0
    unusable: int = 0
    unforeseen: list[str] = field(default_factory=list)

    def write(self, path: Path, make: "Callable[[], Mapping[str, torch.Tensor]]") -> None:
        """Write a file, or say why not."""
        try:
            tensors = make()
        except Exception as error:
            reason = refusal(error, path.name)
            if reason is not error:
                self.unforeseen.append(str(reason))
            self.leave_out(reason)
            return
        encoded.write(path, tensors)
        self.made += 1

    def leave_out(self, reason: Unusable) -> None:
        self.unusable += 1
        log.logger.warning("not encoded: %s", reason)


def refusal(error: Exception, name: str) -> Unusable:
    """Return why something can't be encoded.

    An error that nobody foresaw is logged where it came from.

    Raises:
        OSError: the machine failed.
        MachineError: the same.
        RuntimeError: the same, as PyTorch says it.
    """
    if isinstance(error, Unusable):
        return error
    if of_machine(error) or isinstance(error, RuntimeError):
        raise error  # of the device; its other errors can't be told from a clip's
    log.logger.error("%s", name, exc_info=error)
    return Unusable(f"{name}: {unexpected(error)}")


def _collected(spec: RunSpec, data: Path, folder: Path) -> Path:
    """Write the manifest's lines of some data; returns the file."""
    target, parts = folder / "accepted.jsonl", folder / "parts.json"
    write_json(parts, [[str(data), None]])
    listed = parts if spec.index else data
    joining.collect(listed, spec.index, target, folder / "refused.jsonl")
    return target


def _due(spec: RunSpec, family: "Kind", manifest: Path) -> Pending:
    due, store, taken = Pending(), Store(spec.encoded, spec.step_fingerprints), set[Path]()
    texts = {""} if family.needs.text else set()
    parts = dataset.read(manifest, spec.data_root, spec.settings, family.one_frame, family.needs)
    for samples in (parts["train"], parts["validation"]):
        for number in range(samples.num_clips):
            try:
                plan = samples.plan(number)
                path = store.clip(samples, plan)
            except Unusable as reason:
                due.leave_out(reason)
                continue
            texts |= {plan.answer} if family.needs.text else set()
            taken.add(path)
            if not path.exists():
                due.clips.setdefault(path, (samples, number))
    due.texts = {path: text for text in sorted(texts) if not (path := store.text(text)).exists()}
    due.kept = len(taken) + len(texts) - len(due.clips) - len(due.texts)
    return due


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


def _encode(due: Pending, run: Run, family: "Kind", place: str, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    loaded = family.load_encoders(run, torch.device(place))
    with log.progress("encode", len(due.clips) + len(due.texts)) as advance:
        for path, text in due.texts.items():
            due.write(path, partial(family.encode_text, loaded, text))
            advance()
        for path, sample in zip(due.clips, _decoded(due, run.num_workers), strict=True):
            if isinstance(sample, Unusable):
                due.leave_out(sample)
            elif isinstance(sample, Exception):
                raise sample
            else:
                due.write(path, partial(family.encode_sample, loaded, sample))
            advance()
    if len(due.unforeseen) == len(due.clips) + len(due.texts) > 1:
        raise ValueError(f"nothing could be encoded; the first: {due.unforeseen[0]}")


def _decoded(due: Pending, num_workers: int) -> "Iterator[Sample | Exception]":
    """Yield the samples that are due, decoded ahead by worker processes."""
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        _Decoder(list(due.clips.values())),  # type: ignore[arg-type]  # anything indexed will do
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=environment.end_with_parent,
    )
    return iter(loader)


@dataclass(frozen=True)
class _Decoder:
    clips: list[tuple[VideoFrameDataset, int]]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, place: int) -> Sample | Exception:
        samples, number = self.clips[place]
        try:
            return samples[number]
        except Exception as error:
            if of_machine(error):
                return error
            return refusal(error, f"video {samples.video(number)}")
