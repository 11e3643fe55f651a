"""From a spec to finished weights, and stops before it."""

import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spark_trainer.config import Run
from spark_trainer.data.layout import Layout
from spark_trainer.runs import configured
from spark_trainer.system import gpu
from spark_trainer.system.gpu import registry
from spark_trainer.train import data, launch, processes
from spark_trainer.train.launch import LaunchError
from spark_trainer.train.topology import SLURM_JOB, Topology

from .conftest import metrics, train, write_run
from .test_resume import ROOT, configure

no_gpu = pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")


@no_gpu
def test_trains_and_records_its_lineage(make: Any, manifest: Path) -> None:
    made = make(max_steps=2)
    launch.fit(made, manifest, granted_gpus=8, threads=2)
    assert (made.folder.path / "trained.json").exists()
    lineage = json.loads((made.folder.path / "lineage.json").read_text())
    assert lineage["manifest_sha256"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert len(lineage["videos"]) == 12
    assert all("transcriber_model" in video for video in lineage["videos"].values())
    assert lineage["packages"]["transformers"]
    assert lineage["devices"] == []


@no_gpu
@pytest.mark.long
def test_devices_are_free_when_the_launch_is_killed(
    make: Any, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it started ends with it."""
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "leases"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    made = make(allow_cpu=False, min_gpus=1)
    spawn = multiprocessing.get_context("spawn")
    launching = spawn.Process(target=launch.fit, args=(made, manifest, 1, 1))
    launching.start()
    _until(lambda: (made.folder.path / "run.json").exists())
    (holder,) = gpu.holders()
    assert (holder.device, holder.fraction, holder.what) == ("5", 1, "train run")
    assert holder.pid == launching.pid
    assert json.loads((made.folder.path / "lineage.json").read_text())["devices"] == ["5"]
    launching.kill()
    launching.join()
    _until(lambda: not gpu.holders())


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


@no_gpu
@pytest.mark.parametrize(
    "settings", [{"allow_cpu": False}, {"allow_cpu": True, "min_gpus": 2}], ids=str
)
def test_too_few_gpus_stop_before_any_work(
    make: Any, manifest: Path, settings: dict[str, Any]
) -> None:
    made = make(**settings)
    with pytest.raises(LaunchError, match=r"0 GPUs present and 8 granted.*train\.allow_cpu"):
        launch.fit(made, manifest, granted_gpus=8, threads=1)


def test_an_empty_manifest_stops(make: Any, manifest: Path) -> None:
    manifest.write_text("")
    with pytest.raises(LaunchError, match="no usable video"):
        launch.fit(make(), manifest, granted_gpus=0, threads=1)


def test_a_base_whose_weights_are_gone_is_named(make: Any, manifest: Path, tmp_path: Path) -> None:
    base = make("sft")
    settings = base.settings.model_copy(update={"base_run": "sft"})
    layout = Layout(tmp_path / "state")
    made = configured.spec_on_manifest("more", settings, layout, others={"sft": base})
    message = r"runs\.more\.base_run: .*final is gone; delete .*/sft-[0-9a-f]+/trained\.json, and "
    with pytest.raises(LaunchError, match=message):
        launch.fit(made, manifest, granted_gpus=0, threads=1)


@no_gpu
def test_a_process_that_ends_before_the_last_update_is_no_success(
    make: Any, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As code of a user's may end it."""
    monkeypatch.setattr(launch, "_program", lambda folder: ["-c", "import os; os._exit(0)"])
    with pytest.raises(LaunchError, match="ended with status 0 before its last update"):
        launch.fit(make(), manifest, granted_gpus=0, threads=1)


@no_gpu
@pytest.mark.parametrize("granted", [1, 2, 4, 8])
def test_an_update_takes_the_same_samples_on_any_number_of_gpus(
    granted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    run = Run(batch_size=2, gradient_accumulation_steps=2, gpus=8)
    topology = launch._topology(run, granted, 1)
    assert topology == Topology(1, granted, "cuda")
    taken = [_update(run, rank, topology.world_size) for rank in range(topology.world_size)]
    assert sorted(itertools.chain(*taken)) == sorted(_update(run, 0, 1))
    assert {len(numbers) for numbers in taken} == {32 // granted}


def _update(run: Run, rank: int, world: int) -> list[int]:
    """The samples of the third update that a process takes."""
    samples = type("Lengths", (), {"lengths": lambda self: np.ones(100, dtype=int)})()
    size = run.samples_per_update
    shared = size, run.batch_size, rank, world, run.seed
    sampler = data.DistributedBatchSampler(samples, *shared, True, 2)
    batches = iter(sampler)
    return [number for _ in range(sampler.num_batches) for number in next(batches)]


@no_gpu
@pytest.mark.long
@pytest.mark.parametrize("count", [1, 4])
def test_every_process_gets_a_gpu_of_its_own(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes started as the training ones, which say over a real group what they see."""
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "leases"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "8,1,2,3,GPU-4,5,6,7,9")
    run = Run(gpus=8, fsdp=count == 1)  # one alone is in a group only where its model is shared out
    topology = launch._topology(run, count, 1)
    program = ["-m", "tests.train.rank", str(tmp_path / "seen.json")]
    with launch._leased("run", topology) as lease:
        assert processes.start(program, run, topology, 2, lease).status == 0
        assert lease
        devices = lease.devices
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert [one["rank"] for one in seen] == list(range(count))
    assert [one["device"] for one in seen] == list(devices)
    assert len(set(devices)) == count


def snakemake(folder: Path, granted: int) -> "subprocess.CompletedProcess[str]":
    """`snakemake train` in a folder with one video, on so many of 4 made-up devices."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
        registry.FOLDER_VARIABLE: str(folder / "leases"),
    }
    command = [sys.executable, "-m", "snakemake", "train", "--resources", f"gpu={granted}"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml"]
    command += ["--cores", "8"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@no_gpu
@pytest.mark.long
def test_snakemake_grants_and_the_run_takes(make: Any, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "videos").mkdir(parents=True)
    shutil.copy(ROOT / "config/demo/clips/dog.mp4", folder / "videos")
    settings = make(gpus=4, min_gpus=4).settings.model_dump(mode="json")
    configure(folder, "many", settings)
    few = snakemake(folder, 2)
    assert few.returncode != 0
    assert (
        "train.runs.many.min_gpus: the run needs 4, and the GPUs here are 2; expected at most 2"
        in few.stderr
    )
    all_of_them = snakemake(folder, 4)
    [run] = folder.glob("runs/many-*")
    told = json.loads((run / "run.json").read_text())
    assert (told["processes"], told["device"]) == (4, "cuda")
    devices = json.loads((run / "lineage.json").read_text())["devices"]
    assert devices == ["0", "1", "2", "3"]
    # The devices are made up, which is as far as it goes.
    assert "asked for 4 processes on cuda, torch finds 0 GPUs here" in all_of_them.stderr


@no_gpu
def test_fewer_gpus_than_the_run_needs_stop(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    made = make(gpus=8, min_gpus=8)
    with pytest.raises(LaunchError, match=r"4 GPUs present and 8 granted, .* needs at least 8"):
        launch.fit(made, Path(made.settings.manifest_path), granted_gpus=8, threads=1)


def test_several_nodes_need_slurm(
    make: Any, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SLURM_JOB, raising=False)
    with pytest.raises(LaunchError, match="2 nodes need an allocation of Slurm"):
        launch.fit(make(nodes=2), manifest, granted_gpus=0, threads=1, nodes=2)


# As Slurm's own commands: everything up to the program is srun's, then it runs once for each node.
SRUN = """#!/bin/sh
echo "$@" > "$STAND_INS/asked"
until case "$1" in /*) true ;; *) false ;; esac; do shift; done
SLURM_NODEID=0 "$@" & first=$!
SLURM_NODEID=1 "$@" & second=$!
wait $first && wait $second
"""
SCONTROL = """#!/bin/sh
case "$2" in
hostnames) printf 'n1\\nn2\\n' ;;
node) echo "   NodeAddr=127.0.0.1 NodeHostName=$3 Version=24" ;;
esac
"""


@no_gpu
@pytest.mark.long
def test_two_nodes_form_one_group(
    make: Any, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's commands are stand-ins, all else is real; tests/slurm has the real ones."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    settings = {"batch_size": 2, "global_batch_size": 4, "max_steps": 2, "eval_steps": 2}
    alone = train(write_run(make("one", **settings)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setenv("STAND_INS", str(tmp_path / "bin"))
    monkeypatch.setenv("SLURM_JOB_ID", "4242")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    for name, sharded in (("whole", False), ("fsdp", True)):
        two = make(name, nodes=2, fsdp=sharded, **settings)
        launch.fit(two, manifest, granted_gpus=0, threads=2, nodes=2)
        assert "--nodes 2 --ntasks 2 --ntasks-per-node 1" in (tmp_path / "bin/asked").read_text()
        assert json.loads((two.folder.path / "trained.json").read_text())["processes"] == 2
        nodes = (two.folder.path / "nodes").iterdir()
        assert sorted(path.name for path in nodes) == ["0.json", "1.json"]
        for a, b in zip(alone, metrics(two.folder.path), strict=True):
            same = {"step", "loss", "held_out_loss", "grad_norm"} & a.keys()
            assert {k: b[k] for k in same} == pytest.approx({k: a[k] for k in same}, rel=1e-3)


@pytest.mark.parametrize("given", [None, "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_memory_of_a_gpu_grows_in_place(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the user says how it is taken, by either name."""
    for name in processes.ALLOCATOR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(given, "backend:native")
    told = tmp_path / "told.json"
    write = "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ)))"
    lease: Any = SimpleNamespace(environment={}, descriptors=())
    program = ["-c", write, str(told)]
    assert processes.start(program, Run(), Topology(1, 1, "cuda"), 1, lease).status == 0
    found = json.loads(told.read_text())
    taken = {name: found[name] for name in processes.ALLOCATOR_VARIABLES if name in found}
    wanted = {given: "backend:native"} if given else {}
    assert taken == (wanted or {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"})
