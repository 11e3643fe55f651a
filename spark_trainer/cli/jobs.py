"""The commands that the rules run."""

import argparse
from pathlib import Path

from spark_trainer.cli.commands import withdraw
from spark_trainer.system import log


def step(options: argparse.Namespace) -> int:
    """Run one step over a shard or over one video; called by the rules."""
    from spark_trainer import steps
    from spark_trainer.data.files import read_state
    from spark_trainer.data.layout import Layout, Shard, Video
    from spark_trainer.steps import runner
    from spark_trainer.steps.base import Context

    job = read_state(options.settings, dict)
    layout = Layout(Path(job["output_dir"]))
    log.start(f"{job['step']} {options.shard or options.folder}", options.log)
    if options.shard:
        videos = layout.read_shard(options.shard)
    else:
        video = Video(options.video, options.folder, options.correction or "", options.labels or "")
        videos = Shard(video.bits, (video,))
    settings = steps.load(job["step"]).SETTINGS(**job["settings"])
    context = Context(layout, settings, options.threads, options.gpus or 0)
    runner.run(job["step"], job["fingerprint"], videos, context, options.marker)
    return 0


def part(options: argparse.Namespace) -> int:
    """Write a shard's lines of the manifest; called by the rules."""
    from spark_trainer.data.files import read_state
    from spark_trainer.data.layout import Layout
    from spark_trainer.steps import manifest

    log.start(f"manifest {options.shard}", options.log)
    job = read_state(options.settings, dict)
    layout = Layout(Path(job["output_dir"]))
    shard = layout.read_shard(options.shard)
    read, keys = job["settings"]["steps"], job["settings"]["keys"]
    manifest.part(layout, shard, read, job["fingerprint"], options.marker, keys)
    return 0


def join(options: argparse.Namespace) -> int:
    """Join the manifest; called by the rules."""
    from spark_trainer.data import joining, meta, past
    from spark_trainer.data.files import read_state, write_json
    from spark_trainer.data.layout import Layout

    log.start("manifest", options.log)
    withdraw(options.marker)
    counts = joining.join(options.parts, options.index, options.manifest, options.rejected)
    layout, job = Layout(options.manifest.parent), read_state(options.settings, dict)
    said = job["settings"]
    write_json(options.manifest.with_suffix(".features.json"), meta.features(said["keys"]))
    past.keep(layout, options.manifest)
    built = {"snapshot": options.snapshot, "steps": said["steps"]}
    write_json(layout.built, built | {"fingerprint": job["fingerprint"]})
    write_json(options.marker, counts)
    return 0


def encode(options: argparse.Namespace) -> int:
    """Encode a shard's clips with a model's frozen encoders; called by the rules."""
    from spark_trainer.runs.spec import RunSpec
    from spark_trainer.train import encode as encoding

    spec = RunSpec.read(options.spec)
    log.start(f"encode {options.data}", options.log)
    encoding.run(spec, options.data, options.gpus, options.threads, options.marker)
    return 0


def fit(options: argparse.Namespace) -> int:
    """Train one run; called by the rules."""
    from spark_trainer.runs.spec import RunSpec
    from spark_trainer.train import launch

    spec = RunSpec.read(options.spec)
    log.start(f"train {spec.name}", options.log)
    launch.fit(spec, options.data, options.gpus, options.threads, options.nodes or 1)
    return 0


def node(options: argparse.Namespace) -> int:
    """Train on this node of several; started by `fit` through Slurm."""
    from spark_trainer.runs.folder import RunFolder
    from spark_trainer.train import launch

    log.start("train on a node")
    return launch.on_node(RunFolder(Path(options.folder)), options.threads)


FLAGS = {
    step: "settings shard folder video correction labels marker threads gpus log",
    part: "settings shard marker log",
    join: "settings index snapshot manifest rejected marker log parts",
    encode: "spec marker gpus threads log data",
    fit: "spec gpus nodes threads log data",
    node: "folder threads",
}
NUMBERS = {"gpus", "nodes", "threads"}
TEXTS = {"correction", "folder", "labels", "snapshot", "video"}
