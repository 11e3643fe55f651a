"""From a run folder to what the loop needs, with a stop where it is not what was asked for."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from spark_trainer import families, methods
from spark_trainer.config import Run
from spark_trainer.data import dataset
from spark_trainer.data.samples import Check, LeftOut, Samples
from spark_trainer.errors import UserError
from spark_trainer.families.kinds import loading
from spark_trainer.families.kinds.base import Kind
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.reading import Reader, Splits
from spark_trainer.methods.base import Method
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.system import log
from spark_trainer.train import strategies

SHOWN = 10  # videos of one reason, in a message


class TrainingError(UserError):
    """Training can't go on; the message says why."""


@dataclass(frozen=True)
class Setup:
    """What a process of a run starts from.

    `beside` reads other samples than the run's that scores are told of, if any.
    """

    folder: RunFolder
    run: Run
    launched: LaunchedRun
    accelerator: Accelerator
    method: Method
    training: Reader
    validation: Reader
    beside: Reader | None

    @property
    def loaded(self) -> Loaded:
        """Return the model as it was loaded, and what feeds it."""
        return self.method.loaded


def prepare(folder: Path) -> Setup:
    """Read a run folder, and load the model and what reads the data.

    Raises:
        TrainingError: the processes, device or precision are not those that were asked for.
        ValueError: the checkpoint is of no known family, or a split of the data is empty.
    """
    here = RunFolder(folder)
    run, launched, accelerator = _launched(here)
    family = find(run)
    run = family.completed(run)
    kind = methods.find(run.model_type)
    kind.check_services(run)
    check = kind.reference_check(run)
    samples = _splits(here, launched.data_root, run, family, check)
    if run.from_scratch and accelerator.is_main_process:
        log.logger.warning("train.from_scratch: %s begins from random weights", run.model_name)
    method = kind(run, family, model(run, family, launched.device))
    training, validation = method.readers(samples, accelerator.device, launched.encoded_files)
    beside = family.beside(method.loaded, run)
    return Setup(here, run, launched, accelerator, method, training, validation, beside)


def _launched(folder: RunFolder) -> tuple[Run, LaunchedRun, Accelerator]:
    """Read the run, and return it with its settings and the processes and device that it got.

    Raises:
        TrainingError: they are not those that were asked for, or lack the precision.
    """
    launched = LaunchedRun.read(folder)
    run = launched.settings
    _check_devices(launched)
    _check_precision(run, launched.device)
    strategy = strategies.of(run)
    made = strategy.make_accelerator(run, launched)
    got = (made.num_processes, made.device.type)
    if got != (launched.processes, launched.device):
        raise TrainingError(
            f"asked for {launched.processes} processes on {launched.device}, "
            f"got {got[0]} on {got[1]}"
        )
    if not strategy(run, made).is_active():
        raise TrainingError(f"asked for {strategy.NAME}, got {made.distributed_type.value}")
    if made.is_main_process:
        log.start(f"training on {got[0]} × {got[1]}", folder.log)
    return run, launched, made


def _check_devices(launched: LaunchedRun) -> None:
    wanted = launched.processes_per_node
    if launched.device == "cuda" and (found := torch.cuda.device_count()) < wanted:
        raise TrainingError(f"asked for {wanted} processes on cuda, torch finds {found} GPUs here")


def _check_precision(run: Run, device: str) -> None:
    if device == "cpu" and run.mixed_precision == "fp16":
        raise TrainingError("train.mixed_precision: fp16 needs a GPU; expected bf16 or no")
    if device == "cpu" and run.optimizer.startswith("paged"):
        raise TrainingError(f"train.optimizer: {run.optimizer} needs a GPU; expected another")
    if device != "cuda":
        return
    # Cards before Ampere emulate it, many times slower than float32.
    fast, name = (
        torch.cuda.is_bf16_supported(including_emulation=False),
        torch.cuda.get_device_name(),
    )
    if run.mixed_precision == "bf16" and not fast:
        raise TrainingError(f"train.mixed_precision: {name} has no bf16; expected fp16 or no")
    if run.mixed_precision == "no" and fast:
        text = (
            "train.mixed_precision: no computes in float32; bf16 takes half the memory on %s, and "
        )
        log.logger.warning(text + "several times less time", name)


def find(run: Run) -> Kind:
    """Return the family of a run.

    Raises:
        ValueError: there is none, or the run's `model_type` is another's.
    """
    family = families.find(run.model_name)
    known = methods.model_types(family.kind)
    if run.model_type not in known:
        expected = " or ".join(known)
        raise ValueError(
            f"train.model_type: {run.model_type} can't train {run.model_name}; expected {expected}"
        )
    methods.find(run.model_type).check(run, family)
    return family


def model(run: Run, family: Kind, device: str = "cpu") -> Loaded:
    """Load the model with its frozen and its learning parts, the same weights in every process.

    Args:
        run: the settings.
        family: the checkpoint's.
        device: type of the one that will compute.

    Raises:
        ValueError: the family can't do what is asked.
    """
    set_seed(run.seed)
    # cuDNN's attention plans for each new shape, 20 to 40 ms a time in each thread. The number of
    # all tokens of a varlen call is part of its shape (MHAParams in torch's cudnn/MHA.cpp).
    torch.backends.cuda.enable_cudnn_sdp(family.fixed_shapes)
    loaded = built(run, family, device)
    set_seed(run.seed, device_specific=True)
    return loaded


def built(run: Run, family: Kind, device: str = "cpu", on_meta: bool = False) -> Loaded:
    """Return the model with its frozen and its learning parts.

    Args:
        run: the settings.
        family: the checkpoint's.
        device: type of the one that will compute.
        on_meta: weights have shapes and no content, see `LoadOptions`.

    Raises:
        ValueError: the family can't do what is asked.
    """
    if run.packing and not family.packs:
        raise ValueError(f"train.packing: expected false, {run.model_name} can't be packed")
    options = LoadOptions.of(run, family.mostly_frozen, device, on_meta)
    loaded = family.load(run.model_name, options)
    family.check(loaded, run)
    with torch.device("meta") if on_meta else contextlib.nullcontext():
        family.let_learn(loaded.model, run)
    if run.finetune == "qlora":
        loading.keep_packing(loaded.model)
    if run.recomputed:
        family.checkpoint_gradients(loaded.model, run.recomputed)
    return loaded


def _splits(folder: RunFolder, root: Path, run: Run, family: Kind, check: Check | None) -> Splits:
    """Return the training and the validation split of the data; light beside a model.

    Raises:
        ValueError: one of them is empty, or too many of its videos lack something.
    """
    manifest = folder.manifest
    family.check_data(manifest, folder.rejected, run)
    make = partial(family.samples, manifest, root, run)
    found = dataset.splits(manifest, run.split, make, check)
    _check_split("train", found["train"], manifest, run)
    if run.holds_out:
        _check_split("validation", found["validation"], manifest, run)
    return found["train"], found["validation"]


def _check_split(split: str, samples: Samples, manifest: Path, run: Run) -> None:
    lost, usable = samples.left_out, samples.num_videos
    for reason in _counted(lost):
        log.logger.warning("left out of %s: %s", split, reason)
    for remark in samples.remarks:
        log.logger.warning("%s: %s", split, remark)
    if len(lost) > run.max_left_out * (usable + len(lost)):
        raise ValueError(
            f"train.max_left_out: {len(lost)} of {usable + len(lost)} videos of the split "
            f"{split!r} can't be used, more than {run.max_left_out:g}; the last: {lost[-1]}"
        )
    if not usable:
        raise ValueError(
            f"train.split: no usable video in the split {split!r} of {manifest}; "
            "change split.validation or split.seed, or add videos"
        )


def _counted(left_out: Sequence[LeftOut]) -> Iterator[str]:
    """Yield what is left out, a line for each reason; many of one reason are counted."""
    videos = defaultdict[str, list[str]](list)
    for video, reason in left_out:
        videos[reason].append(video)
    for reason, named in videos.items():
        if named[1:]:
            more = ", …" if named[SHOWN:] else ""
            yield f"{len(named):,} videos, {reason}: {', '.join(named[:SHOWN])}{more}"
        else:
            yield f"{named[0]}: {reason}"
