"""From a spec to a run folder: check the devices, write the lineage, start the processes."""

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from spark_trainer.config import ConfigError, Run
from spark_trainer.data import joining, manifest, past, questions
from spark_trainer.data.dataset import of_entry
from spark_trainer.data.files import write_json, write_text
from spark_trainer.data.layout import Layout
from spark_trainer.errors import MACHINE_STATUS, MachineError, Stopped, UserError
from spark_trainer.runs import configured
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun, RunSpec
from spark_trainer.system import gpu, log
from spark_trainer.train import continued, holder, lineage, memory_check, processes, stop
from spark_trainer.train.strategies import deepspeed_config
from spark_trainer.train.topology import SLURM_JOB, Rendezvous, Topology, sharing


class LaunchError(UserError):
    """A run that can't start as it was asked to; the message says what is missing."""


def fit(spec: RunSpec, data: Path, granted_gpus: int, threads: int, nodes: int = 1) -> None:
    """Train a run; one that was interrupted goes on from its last checkpoint.

    Several nodes need an allocation of Slurm, in which this runs. From here `srun` starts
    `python -m spark_trainer node` once on each node, this one included (`--overlap`, because the
    step that this runs in may hold the node). Each node leases its own GPUs and starts its own
    processes; they meet at the first node's address (`NodeAddr`, as Slurm has it) and a port that
    follows from the job's id. When one node fails, Slurm ends the others. The run folder must lie
    on a disk that all nodes share.

    Args:
        spec: what to train.
        data: a manifest, or the list of the parts of the one that the workflow builds.
        granted_gpus: GPUs that may be used, on all nodes together, as Snakemake counted them.
        threads: cores that may be used on a node.
        nodes: how many nodes; each gets as many GPUs.

    Raises:
        LaunchError: too few GPUs, no data, no allocation, or the training processes failed.
        MachineError: they failed, but another try may succeed.
        UserError: another holds the run folder.
    """
    folder = spec.folder
    with holder.held(folder) as lock:
        topology = _topology(spec.settings, granted_gpus, nodes)
        _gather(spec, data, topology)
        if nodes > 1:
            _describe(spec, topology, None)
            _check_memory(spec, topology, None)
            ending = processes.run([processes.srun(topology, folder.path, threads)], held=[lock])
        else:
            with _leased(spec.name, topology) as lease:
                _describe(spec, topology, lease)
                _check_memory(spec, topology, lease)
                program = _program(folder)
                ending = processes.start(program, spec.settings, topology, threads, lease, lock)
    _conclude(spec, ending)


def _gather(spec: RunSpec, data: Path, topology: Topology) -> None:
    """Write what the processes read beside the run itself; stop where they can't begin."""
    run, folder = spec.settings, spec.folder
    if run.samples_per_update % topology.world_size:
        raise LaunchError(
            f"train.global_batch_size: {run.samples_per_update} samples can't be shared "
            f"evenly by {topology.world_size} processes; "
            f"expected a multiple of {topology.world_size}"
        )
    _check_base_run(spec)
    configured.check_files(spec)
    try:
        joining.collect(data, spec.index, folder.manifest, folder.rejected)
        if run.text.questions is not None:
            questions.join(Path(run.text.questions), folder.manifest, run.max_left_out)
        splits = {of_entry(entry, run.split) for entry in manifest.read(folder.manifest)}
        if spec.base:
            continued.begin(spec.base, folder, spec.run_id, log.logger.warning)
    except ValueError as error:
        raise LaunchError(str(error)) from None
    if not splits:
        raise LaunchError(f"{data}: no usable video to train on")
    for split in ("train", "validation") if run.holds_out else ("train",):
        if split not in splits:
            raise LaunchError(
                f"train.split: no video in the split {split!r} of {folder.manifest}; change "
                "split.validation, split.validation_paths or split.seed, or add videos"
            )


def _check_base_run(spec: RunSpec) -> None:
    """Stop where the weights that the run begins with were deleted after they were trained.

    Raises:
        LaunchError: they are not there.
    """
    run = spec.settings
    final = Path(run.model_name)
    if run.base_run and not final.is_dir():
        raise LaunchError(
            f"train.runs.{spec.name}.base_run: {final} is gone; delete "
            f"{RunFolder(final.parent).summary}, and the same command trains {run.base_run} again"
        )


def _conclude(spec: RunSpec, ending: processes.Ending) -> None:
    """End as the processes did.

    Raises:
        LaunchError: the settings or the data are to blame.
        MachineError: another try may succeed.
        Stopped: the run was asked to stop.
    """
    if ending.status == 0 and spec.folder.summary.is_file():
        return
    told = ending.reason or _unsaid(ending)
    text = f"run {spec.name}: {told}; see {spec.folder.log}"
    if ending.asked:
        raise Stopped(text, stop.STATUS[ending.asked])
    if ending.status == MACHINE_STATUS or ending.status > processes.BY_SIGNAL:
        raise MachineError(text)
    raise LaunchError(text)


def _unsaid(ending: processes.Ending) -> str:
    if ending.asked:
        return (
            "stopped at once; the same command goes on from its newest checkpoint, or begins again"
        )
    if ending.status > processes.BY_SIGNAL:
        return f"a training process was ended by signal {ending.status - processes.BY_SIGNAL}"
    return f"ended with status {ending.status} before its last update"


def on_node(folder: RunFolder, threads: int) -> int:
    """Train this node's part of a run on several nodes; returns the status of its processes.

    Raises:
        LaunchError: fewer GPUs here than the first node has.
    """
    launched = LaunchedRun.read(folder)
    topology = Topology(launched.nodes, launched.processes_per_node, launched.device)
    rendezvous = Rendezvous.of_slurm_job()
    with _leased(launched.name, topology) as lease:
        devices = list(lease.devices) if lease else []
        found = {"host": platform.node(), "devices": devices}
        write_json(folder.node(rendezvous.node), found)
        run = launched.settings
        ending = processes.start(
            _program(folder), run, topology, threads, lease, rendezvous=rendezvous
        )
    if ending.reason:
        print(f"spark_trainer: {ending.reason}", file=sys.stderr)
    return ending.status


def _program(folder: RunFolder) -> list[str]:
    return ["-m", "spark_trainer.train.process", str(folder)]


@contextlib.contextmanager
def _leased(name: str, topology: Topology) -> Iterator[gpu.Lease | None]:
    """Hold a whole GPU for each process of this node; waits for those that others hold.

    None on the CPU.
    """
    if topology.device == "cpu":
        yield None
        return
    try:
        with gpu.lease(topology.processes, what=f"train {name}") as lease:
            log.logger.info("gpu: leased %s", ", ".join(lease.devices))
            yield lease
    except gpu.NoDevice as error:
        raise LaunchError(str(error)) from None


def _describe(spec: RunSpec, topology: Topology, lease: gpu.Lease | None) -> None:
    """Write what the run is made of, and what its processes read."""
    folder, run = spec.folder, spec.settings
    deepspeed = None
    if run.use_deepspeed:
        try:
            values = deepspeed_config.read(run)
        except ConfigError as error:
            raise LaunchError(str(error)) from None
        deepspeed = deepspeed_config.filled(values, run, topology.world_size)
    launched = LaunchedRun.of(spec, topology.nodes, topology.world_size, topology.device, deepspeed)
    past.keep(Layout(spec.encoded.parents[1]), folder.manifest, folder.name)
    devices = {"devices": list(lease.devices) if lease else []}
    made_by = lineage.steps(Layout(spec.data_root), spec.made_by or {})
    write_json(folder.lineage, lineage.of(launched, folder.manifest, made_by) | devices)
    folder.code_diff.unlink(missing_ok=True)
    if diff := lineage.code_diff():
        write_text(folder.code_diff, diff)
    write_text(folder.config, yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False))
    launched.write(folder)


def _check_memory(spec: RunSpec, topology: Topology, lease: gpu.Lease | None) -> None:
    """Stop a run that can't fit into its GPUs, and tell where `auto` can't be decided by them.

    Those of several nodes are not asked here.
    """
    if topology.device == "cuda":
        memory = gpu.memory_bytes(lease.devices) if lease else None
        memory_check.before_loading(spec.folder, memory, spec.settings.check_memory)
    launched = LaunchedRun.read(spec.folder)
    run = launched.settings
    if run.gradient_checkpointing == "auto":
        decided = run.model_copy(update={"gradient_checkpointing": run.recomputed})
        replace(launched, settings=decided).write(spec.folder)
        text = "train.gradient_checkpointing: auto is true, the memory of a GPU is not known here"
        log.logger.warning(text)


def _topology(run: Run, granted: int, nodes: int) -> Topology:
    """Choose the processes of each node and their device."""
    if nodes > 1 and not os.environ.get(SLURM_JOB):
        raise LaunchError(
            f"{nodes} nodes need an allocation of Slurm; expected train.nodes: 1 outside of it"
        )
    present = len(gpu.visible())
    usable = min(granted // nodes, present)
    samples = run.samples_per_update
    shared = sharing(samples, nodes, usable)
    if shared < usable:
        text = "using %d of %d GPUs: %d samples per update can't be shared evenly by all"
        log.logger.warning(text, shared * nodes, usable * nodes, samples)
        usable = shared
    if usable * nodes >= max(1, run.min_gpus):
        if usable < run.gpus:
            text = "training on %d GPUs, %d were asked for"
            log.logger.warning(text, usable * nodes, run.gpus * nodes)
        return Topology(nodes, usable, "cuda")
    if usable == 0 and run.allow_cpu and run.min_gpus == 0:
        log.logger.warning("no GPU here: training on the CPU, because allow_cpu is true")
        return Topology(nodes, run.cpu_processes, "cpu")
    raise LaunchError(
        f"{present} GPUs present and {granted} granted, but the run needs at least "
        f"{max(1, run.min_gpus)}; to train on the CPU set train.allow_cpu: true and "
        "train.min_gpus: 0"
    )
