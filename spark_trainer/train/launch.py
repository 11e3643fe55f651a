"""From an order to a run folder: check the devices, write the lineage, start the processes."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from spark_trainer import __version__, gpu, log
from spark_trainer.config import Run
from spark_trainer.data import manifest
from spark_trainer.data.files import file_digest, read_json, write_json, write_text
from spark_trainer.steps.manifest import join
from spark_trainer.train.order import Order

PACKAGES = ("accelerate", "deepspeed", "diffusers", "peft", "torch", "torchvision", "transformers")


class LaunchError(RuntimeError):
    """A run that can't start as it was asked to; the message says what is missing."""


def fit(order: Order, data: Path, granted_gpus: int, threads: int) -> None:
    """Carry out an order; a run that was interrupted goes on from its last checkpoint.

    Args:
        order: what to train.
        data: a manifest, or the list of the parts of the one that the workflow builds.
        granted_gpus: GPUs that may be used, as Snakemake counted them.
        threads: cores that may be used.

    Raises:
        LaunchError: too few GPUs, no data, or the training processes failed.
    """
    folder = order.folder
    folder.mkdir(parents=True, exist_ok=True)
    processes, device = _devices(order.settings, granted_gpus)
    if order.settings.samples_per_update % processes:
        raise LaunchError(
            f"train.global_batch_size: {order.settings.samples_per_update} samples can't be shared "
            f"evenly by {processes} processes; expected a multiple of {processes}"
        )
    local = folder / "manifest.jsonl"
    try:
        collect(order, data, local)
        if not any(True for _ in manifest.read(local)):
            raise LaunchError(f"{data}: no usable video to train on")
    except ValueError as error:
        raise LaunchError(str(error)) from None
    with _leased(order, processes, device) as lease:
        _describe(order, local, processes, device, lease)
        command = _command(order.settings, processes, device, folder)
        environment = os.environ | {"OMP_NUM_THREADS": str(max(1, threads // processes))}
        environment |= lease.environment if lease else {}
        held = lease.descriptors if lease else ()
        status = subprocess.run(command, env=environment, pass_fds=held, check=False).returncode
    if status != 0:
        raise LaunchError(f"run {order.name} ended with status {status}; see {folder}/train.log")


@contextlib.contextmanager
def _leased(order: Order, processes: int, device: str) -> Iterator[gpu.Lease | None]:
    """Hold a whole GPU for each process; waits for those that others hold. None on the CPU."""
    if device == "cpu":
        yield None
        return
    try:
        with gpu.lease(processes, what=f"train {order.name}") as lease:
            log.logger.info("gpu: leased %s", ", ".join(lease.devices))
            yield lease
    except gpu.NoDevice as error:
        raise LaunchError(str(error)) from None


def _describe(
    order: Order, data: Path, processes: int, device: str, lease: gpu.Lease | None
) -> None:
    """Write what the run is made of, and what its processes read."""
    folder = order.folder
    lineage = _lineage(order, data, processes, device)
    write_json(folder / "lineage.json", lineage | {"devices": list(lease.devices) if lease else []})
    write_text(
        folder / "config.yaml",
        yaml.safe_dump(order.settings.model_dump(mode="json"), sort_keys=False),
    )
    write_json(
        folder / "run.json",
        {
            "name": order.name,
            "seal": order.seal,
            "settings": order.settings.model_dump(mode="json"),
            "data_root": str(order.data_root),
            "encoded": str(order.encoded),
            "versions": order.versions,
            "processes": processes,
            "device": device,
        },
    )


def _devices(run: Run, granted: int) -> tuple[int, str]:
    """Processes to start and their device, or a stop that says why not."""
    present = len(gpu.visible())
    usable = min(granted, present)
    shared = max((n for n in range(1, usable + 1) if not run.samples_per_update % n), default=0)
    if shared < usable:
        text = "using %d of %d GPUs: %d samples per update can't be shared evenly by all"
        log.logger.warning(text, shared, usable, run.samples_per_update)
        usable = shared
    if usable >= max(1, run.min_gpus):
        if usable < run.gpus:
            log.logger.warning("training on %d GPUs, %d were asked for", usable, run.gpus)
        return usable, "cuda"
    if usable == 0 and run.allow_cpu and run.min_gpus == 0:
        log.logger.warning("no GPU here: training on the CPU, because allow_cpu is true")
        return run.cpu_processes, "cpu"
    raise LaunchError(
        f"{present} GPUs present and {granted} granted, but the run needs at least "
        f"{max(1, run.min_gpus)}; to train on the CPU set train.allow_cpu: true and "
        "train.min_gpus: 0"
    )


def collect(order: Order, data: Path, target: Path) -> None:
    """Write the run's own manifest: what was trained on stays known whatever is built later."""
    if order.index is None:
        shutil.copyfile(data, target)
    else:
        join(data, read_json(order.index), target, target.with_name("rejected.jsonl"))


def _lineage(order: Order, data: Path, processes: int, device: str) -> dict[str, Any]:
    """What this run is made of: clips, origin of captions, code, packages, hardware."""
    videos = {
        entry["id"]: {
            "source_path": entry["meta"].get("source_path"),
            "captioner": entry["meta"].get("captioner"),
            "captioner_model": entry["meta"].get("captioner_model"),
        }
        for entry in manifest.read(data)
    }
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "run": order.name,
        "seal": order.seal,
        "manifest_sha256": file_digest(data),
        "model_name": order.settings.model_name,
        "videos": videos,
        "spark_trainer": __version__,
        "code": _revision(),
        "packages": {name: version for name, version in versions.items() if version},
        "python": platform.python_version(),
        "machine": platform.platform(),
        "device": device,
        "processes": processes,
        "gpus": [str(found) for found in gpu.devices()],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The commit of the code, marked when files were edited; None outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return described.stdout.strip() or None


def _command(run: Run, processes: int, device: str, folder: Path) -> list[str]:
    """The processes' command line.

    `accelerate launch` starts several processes on a CPU through MPI alone, so there they are
    started by torch's own launcher, which it uses for several GPUs as well.
    """
    module = ["-m", "spark_trainer.train.loop", str(folder)]
    if device == "cpu" and processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        return [sys.executable, *torchrun, str(processes), *module]
    if not run.use_accelerate:
        return [sys.executable, *module]
    options = ["--num_processes", str(processes), "--num_machines", "1", "--dynamo_backend", "no"]
    options += ["--mixed_precision", run.mixed_precision]
    options += ["--cpu"] if device == "cpu" else []
    options += ["--multi_gpu"] if processes > 1 else []
    # Without it the ids of a user's own accelerate configuration would replace the leased ones.
    options += ["--gpu_ids", "all"] if device == "cuda" else []
    return [sys.executable, "-m", "accelerate.commands.launch", *options, *module]
