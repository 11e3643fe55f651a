"""From a run folder to what the loop needs, with a stop where it is not what was asked for."""

from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from spark_trainer import families, log, pipelines
from spark_trainer.config import Run
from spark_trainer.data import dataset
from spark_trainer.data.encoded import Store
from spark_trainer.data.files import read_json
from spark_trainer.data.sample import Needs
from spark_trainer.errors import UserError
from spark_trainer.families import Family, Films, Generates, Loaded, Reads, Wanted
from spark_trainer.train import data, optim, strategies
from spark_trainer.train.strategies.base import DTYPES

Parts = tuple[dataset.VideoFrameDataset, dataset.VideoFrameDataset]


class TrainingError(UserError):
    """Training can't go on; the message says why."""


def accelerator(folder: Path) -> tuple[Run, dict[str, Any], Accelerator]:
    """The run's settings, its order, and the processes and device that it got.

    Raises:
        TrainingError: they are not those that were asked for, or lack the precision.
    """
    order = read_json(folder / "run.json")
    run = Run(**order["settings"])
    _check_devices(order)
    _check_precision(run, order["device"])
    strategy = strategies.of(run)
    made = strategy.make_accelerator(run, order)
    got = (made.num_processes, made.device.type)
    if got != (order["processes"], order["device"]):
        raise TrainingError(
            f"asked for {order['processes']} processes on {order['device']}, "
            f"got {got[0]} on {got[1]}"
        )
    if not strategy(run, made).is_active():
        raise TrainingError(f"asked for {strategy.NAME}, got {made.distributed_type.value}")
    if made.is_main_process:
        log.start(f"training on {got[0]} × {got[1]}", folder / "train.log")
    return sized(run), order, made


def _check_devices(order: dict[str, Any]) -> None:
    wanted = order["processes"] // order["nodes"]
    if order["device"] == "cuda" and (found := torch.cuda.device_count()) < wanted:
        raise TrainingError(f"asked for {wanted} processes on cuda, torch finds {found} GPUs here")


def _check_precision(run: Run, device: str) -> None:
    if device == "cpu" and run.mixed_precision == "fp16":
        raise TrainingError("train.mixed_precision: fp16 needs a GPU; expected bf16 or no")
    if device == "cpu" and run.optimizer.startswith("paged"):
        raise TrainingError(f"train.optimizer: {run.optimizer} needs a GPU; expected another")
    if device == "cuda" and run.mixed_precision == "bf16" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name()
        raise TrainingError(f"train.mixed_precision: {name} has no bf16; expected fp16 or no")


def find(run: Run) -> Family:
    """The family of a run.

    Raises:
        ValueError: there is none, or the run is of another kind.
    """
    family = families.find(run.model_name)
    if (kind := families.kind(family)) != run.model_type:
        raise ValueError(
            f"train.model_type: {run.model_type} can't train {run.model_name}; expected {kind}"
        )
    return family


def films(run: Run) -> Films:
    """The family of a run that makes videos; raises as `find`."""
    return cast(Films, find(run))


def sized(run: Run) -> Run:
    """The run, with the checkpoint's own size of clips where it makes videos and names none.

    Raises:
        OSError, ValueError: there is no such pipeline, or the run is of another kind.
    """
    if run.model_type != "diffusion" or run.clip.sizes:
        return run
    family = films(run)
    size = pipelines.own_size(run.model_name, family.PIPELINE, family.NETWORK)
    log.logger.info("train.clip.sizes: %d × %d, the checkpoint's own", *size)
    return run.model_copy(update={"clip": run.clip.model_copy(update={"sizes": (size,)})})


def encoders(run: Run, family: Films) -> Loaded:
    """A run's frozen encoders, and of its network the shape alone.

    Raises:
        OSError, ValueError: the pipeline can't be used, or can't learn clips of these settings.
    """
    loaded = family.load(
        run.model_name, Wanted(dtype=DTYPES[run.mixed_precision], encoders_only=True)
    )
    _check_clips(family, loaded, run)
    return loaded


def model(run: Run) -> tuple[Family, Loaded]:
    """The model with its frozen and its learning parts, the same weights in every process.

    Frozen weights below adapters, and all frozen ones of the families that make videos, are held in
    the precision that they are used in.

    Raises:
        ValueError: the checkpoint is of no known family, or the family can't do what is asked.
    """
    set_seed(run.seed)
    family = find(run)
    if run.packing and not family.PACKS:
        raise ValueError(f"train.packing: expected false, {run.model_name} can't be packed")
    narrow = run.finetune != "full" or isinstance(family, Films)
    wanted = Wanted(
        from_scratch=run.from_scratch,
        dtype=DTYPES[run.mixed_precision] if narrow else None,
        four_bit=run.finetune == "qlora",
        attention=run.attention,
        packed=run.packing,
        sharded=run.sharded,
    )
    loaded = family.load(run.model_name, wanted)
    if run.from_scratch:
        log.logger.warning("train.from_scratch: %s begins from random weights", run.model_name)
    if isinstance(family, Films):
        _check_clips(family, loaded, run)
    if run.finetune == "full":
        optim.freeze(family, loaded.model, run)
    else:
        optim.add_adapters(family, loaded.model, run)
    if run.finetune == "qlora":
        _keep_packing(loaded.model)
    if run.gradient_checkpointing:
        _recompute(family, loaded.model)
    set_seed(run.seed, device_specific=True)
    return family, loaded


def _check_clips(family: Films, loaded: Loaded, run: Run) -> None:
    if run.clip.flip and not family.FLIPS:
        raise ValueError(f"train.clip.flip: expected false, a mirrored {run.model_name} is wrong")
    family.check(loaded, run)


def _keep_packing(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from packing weights anew as soon as they are evaluated on a CPU.

    Where the CPU has AVX512-BF16 it does, rounds their scales to 16 bits and fails where a row is
    no multiple of 64 long.
    """
    layer: Any
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def _recompute(family: Family, model: Any) -> None:
    """Gradient checkpointing, as diffusers or transformers call it.

    transformers lets the output of every embedding need a gradient, the patches' of a frozen vision
    tower too, which is then computed again and differentiated for nothing. Only checkpointing that
    re-enters the backward pass would need that.
    """
    if isinstance(family, Films):
        pipelines.recompute(model, family.RECOMPUTED)
    else:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.disable_input_require_grads()


def parts(folder: Path, root: Path, run: Run, family: Family) -> Parts:
    """The training and the validation part of the data; light beside a model.

    Raises:
        ValueError: one of them is empty, or too many of its videos lack something.
    """
    manifest = folder / "manifest.jsonl"
    needs = family.NEEDS if isinstance(family, Films) else Needs()
    found = dataset.read(manifest, root, run, family.ONE_FRAME, needs)
    _check_part("train", found["train"], manifest, run)
    if run.holds_out:
        _check_part("validation", found["validation"], manifest, run)
    return found["train"], found["validation"]


def readers(
    parts: Parts, order: dict[str, Any], run: Run, family: Family, loaded: Loaded, device: Any
) -> tuple[data.Reader, data.Reader]:
    """What reads the training and the validation part."""
    training, validation = parts
    if not isinstance(family, Films):
        writes = cast(Generates, family)
        limits = run.max_length, run.packing
        return (
            data.Texts(training, writes, loaded, *limits),
            data.Texts(validation, writes, loaded, *limits),
        )
    if run.encoded_ahead:
        pipelines.place(loaded, device, family.EACH_STEP)
        store = Store(Path(order["encoded"]), order["versions"])
        return (
            data.Kept(training, family, loaded, run.guidance_dropout, store),
            data.Kept(validation, family, loaded, 0.0, store),
        )
    pipelines.place(loaded, device)
    empty = family.text(loaded, "") if isinstance(family, Reads) else None
    return (
        data.Clips(training, family, loaded, run.guidance_dropout, empty),
        data.Clips(validation, family, loaded, 0.0, empty),
    )


def _check_part(part: str, samples: dataset.VideoFrameDataset, manifest: Path, run: Run) -> None:
    lost, usable = samples.left_out, samples.num_videos
    for reason in lost:
        log.logger.warning("left out of %s: %s", part, reason)
    if len(lost) > run.max_left_out * (usable + len(lost)):
        raise ValueError(
            f"train.max_left_out: {len(lost)} of {usable + len(lost)} videos of the part "
            f"{part!r} can't be used, more than {run.max_left_out:g}; the last: {lost[-1]}"
        )
    if not usable:
        raise ValueError(
            f"train.split: no usable video in the part {part!r} of {manifest}; "
            "change split.validation or split.seed, or add videos"
        )
