"""What a build would do and why, from the jobs that Snakemake plans; none is run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spark_trainer import steps
from spark_trainer.data import manifest as entries
from spark_trainer.data.files import Broken, read_json
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.data.lock import Holder
from spark_trainer.graph.runs import RunGraph
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import RunSpec
from spark_trainer.steps import manifest
from spark_trainer.store.costs import ENCODE, Costs, Training
from spark_trainer.store.due_runs import DueRun, earlier_runs
from spark_trainer.store.last_build import LastBuild
from spark_trainer.store.unreachable import Unreachable, unreachable
from spark_trainer.store.why import Reasons, Why

RUN = "train_run"  # the rule of training runs
EXPORT = "export_one"  # the rule of data sets for other tools


@dataclass(frozen=True)
class Job:
    """A job that Snakemake plans: its rule and wildcards, what it reads, writes and is given."""

    rule: str
    wildcards: Mapping[str, str]
    inputs: Sequence[str]
    outputs: Sequence[str]
    threads: int
    gpus: int

    @property
    def step(self) -> str | None:
        """Name the step that it runs; None where it runs none."""
        kind = self.rule.removesuffix("_shard").removesuffix("_file")
        if kind not in steps.STEPS:
            return None
        backend = self.wildcards.get("backend")
        return f"{kind}/{backend}" if backend else kind

    @property
    def kind(self) -> str | None:
        """Name what its past jobs are found under; None where nothing is noted of such jobs."""
        if self.rule == f"{ENCODE}_shard":
            return f"{ENCODE}/{self.wildcards['encoders']}"
        return self.step


@dataclass(frozen=True)
class Machine:
    """Where the jobs would run."""

    cores: int
    gpus: int


@dataclass(frozen=True)
class Taking:
    """What the jobs will take, by what past ones took.

    Attributes:
        seconds: on this machine, many jobs at once.
        job_seconds: one job after the other.
        gpu_seconds: the same of GPUs, each by itself.
        bytes: that are written.
        unknown: the steps and runs that are left out, as none has been at work here.
    """

    seconds: float
    job_seconds: float
    gpu_seconds: float
    bytes: int
    unknown: Sequence[str]


@dataclass(frozen=True)
class Plan:
    """The jobs of a build, and the videos and runs that they are about.

    Attributes:
        graph: the store as the configuration wants it.
        jobs: as Snakemake plans them, each after those whose results it reads.
        folders: every run's folder that is known.
        machine: where the jobs would run.
        planning_s: how long it took to plan them, as it will at the beginning of the build.
        building: who builds there at this moment, if anybody does.
    """

    graph: VideoGraph
    jobs: Sequence[Job]
    folders: Sequence[RunFolder]
    machine: Machine
    planning_s: float = 0.0
    building: Holder | None = None

    @cached_property
    def counts(self) -> dict[str, int]:
        """Count the jobs of each rule, those that only collect among them, as Snakemake does."""
        return dict(Counter(job.rule for job in self.jobs))

    @cached_property
    def last(self) -> LastBuild:
        """Return what the manifest was built from; an empty state where there is none."""
        return LastBuild.find(self.graph)

    @cached_property
    def _due(self) -> list[dict[Video, Why]]:
        """List what each job will make something of."""
        reasons = Reasons(self.graph, taken_back(self.graph), self.last.files)
        return [
            {} if job.step is None else reasons.due(job.step, self._videos(job))
            for job in self.jobs
        ]

    @cached_property
    def steps(self) -> dict[str, dict[Video, Why]]:
        """Return step -> the videos that it will process, in pipeline order; also if it has none.

        A job looks at every video of its shard, and makes something only of these.
        """
        found: dict[str, dict[Video, Why]] = {job.step: {} for job in self.jobs if job.step}
        for job, due in zip(self.jobs, self._due, strict=True):
            if job.step:
                found[job.step] |= due
        order = steps.names(self.graph.config)
        return dict(sorted(found.items(), key=lambda item: order.index(item[0])))

    @cached_property
    def runs(self) -> list[DueRun]:
        """List the runs that are due, in the order of the configuration."""
        due = {job.wildcards["run"] for job in self.jobs if job.rule == RUN}
        specs = [spec for name, spec in self._specs.items() if name in due]
        return [DueRun.of(spec, earlier_runs(spec)) for spec in specs]

    @property
    def exports(self) -> list[str]:
        """Name the data sets for other tools that are made again."""
        return [job.wildcards["export"] for job in self.jobs if job.rule == EXPORT]

    @property
    def manifest(self) -> bool:
        """Tell whether the manifest is written again."""
        return "manifest_join" in self.counts

    @cached_property
    def unreachable(self) -> list[Unreachable]:
        """List what nothing reaches afterwards."""
        return [*unreachable(self.graph, self.last, self.folders, self._costs)]

    @cached_property
    def taking(self) -> Taking:
        """Estimate what the jobs will take.

        Jobs wait for those whose results they read, and share the machine's cores and GPUs: the
        longest chain of them and the fullest resource each are a lower bound of the time.
        """
        ends: dict[str, float] = {}
        alone = cores = gpus = longest = 0.0
        unknown: dict[str, None] = {}
        for job, due in zip(self.jobs, self._due, strict=True):
            known = self._seconds(job, len(due))
            unknown |= {_name(job): None} if known is None else {}
            seconds = known or 0.0
            begin = max((ends.get(path, 0.0) for path in job.inputs), default=0.0)
            ends |= dict.fromkeys(job.outputs, begin + seconds)
            alone, longest = alone + seconds, max(longest, begin + seconds)
            cores += seconds * min(job.threads, self.machine.cores)
            gpus += seconds * min(job.gpus, self.machine.gpus)
        shared = max(cores / self.machine.cores, gpus / max(1, self.machine.gpus))
        seconds = self.planning_s + max(longest, shared) if alone else 0.0
        return Taking(seconds, alone, gpus, self._bytes(), (*unknown,))

    def _videos(self, job: Job) -> Shard:
        """Return the videos that a step's job looks at; that of a single one is a shard of one."""
        if "shard" in job.wildcards:
            return self.graph.index.shard_of(job.wildcards["shard"])
        video = self.graph.video(job.wildcards["folder"], job.step or "")
        return Shard(video.bits, (video,))

    @cached_property
    def _specs(self) -> dict[str, RunSpec]:
        return RunGraph(self.graph).specs

    @cached_property
    def _costs(self) -> Costs:
        return Costs(self.graph, [*dict.fromkeys(job.kind for job in self.jobs if job.kind)])

    @cached_property
    def _trained(self) -> dict[str, Training | None]:
        looks = Training(self._costs.start_s, 0)
        return {
            run.name: Training.of(earlier_runs(self._specs[run.name])) if run.why else looks
            for run in self.runs
        }

    def _seconds(self, job: Job, due: int) -> float | None:
        """Estimate how long a job takes; None where no such job has been at work here."""
        if job.rule == RUN:
            trained = self._trained[job.wildcards["run"]]
            return None if trained is None else trained.seconds
        videos = due if job.kind is None or job.step else self._encoded(job)
        rate = self._costs.rates.get(job.kind or "")
        if rate is not None:
            return rate.seconds(videos)
        if videos:
            return None
        return self._costs.start_s if job.outputs else 0.0

    def _encoded(self, job: Job) -> int:
        """Count the videos of which a job of `encode` has noted nothing yet."""
        said = job.wildcards
        if "." in said["shard"]:
            names = [video.hash for video in self.graph.index.shard_of(said["shard"]).videos]
        else:  # of a given manifest
            names = [str(entry["id"]) for entry in entries.read(Path(job.inputs[0]))]
        kept = Layout(self.graph.layout.encoded(said["encoders"]))
        videos = (Video(name, f"{name[:2]}/{name}") for name in names)
        return sum(not kept.record(video, said["fingerprint"]).exists() for video in videos)

    def _bytes(self) -> int:
        sizes = [(self._costs.bytes_of(name) or 0) * len(due) for name, due in self.steps.items()]
        return round(sum(sizes)) + sum(one.bytes for one in self._trained.values() if one)


def _name(job: Job) -> str:
    return f"run {job.wildcards['run']}" if job.rule == RUN else str(job.kind)


def taken_back(graph: VideoGraph) -> frozenset[Path]:
    """Return the markers that the next build will remove before it plans; see `promises`."""
    found = set[Path]()
    for note in graph.layout.taken_back.glob("*.json"):
        try:
            found |= {graph.layout.root / name for name in read_json(note, list)}
        except Broken:  # the next build removes the note
            continue
    return frozenset(found)


def still_there(graph: VideoGraph) -> list[Path]:
    """List the markers of the manifest's steps that a dry run takes for true, and no build will."""
    untrue = taken_back(graph)
    names = [*steps.enabled(graph.config), manifest.NAME] if untrue else []
    asked = [*(path for name in names for path in graph.markers(name)), graph.manifest_marker]
    return [path for path in asked if path in untrue and path.exists()]
