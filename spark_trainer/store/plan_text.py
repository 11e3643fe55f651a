"""A plan as it is told: for people, and as JSON."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain

from spark_trainer.data.corrected import told
from spark_trainer.data.files import canonical_json
from spark_trainer.data.layout import Video
from spark_trainer.runs.table import printable
from spark_trainer.steps import manifest
from spark_trainer.store.due_runs import DueRun
from spark_trainer.store.plan import Plan, Taking
from spark_trainer.store.sizes import spelled
from spark_trainer.store.unreachable import Unreachable
from spark_trainer.store.why import Why

NAMED = 3  # videos that a line names; the others are counted


def text(plan: Plan) -> str:
    """Return a plan for people: what and why, then what it takes, then what goes out of reach."""
    building = [f"a build is at work: {plan.building}"] if plan.building else []
    if not plan.jobs:
        return "\n".join([*building, "nothing to do"])
    jobs = ", ".join(f"{count} {rule}" for rule, count in plan.counts.items())
    exports = [f"export {name}" for name in sorted(plan.exports)]
    told = (_videos(plan), _manifest(plan), map(_run, plan.runs), exports)
    lines = [*building, *chain.from_iterable(told), f"jobs: {jobs}"]
    return "\n".join([*lines, *_taking(plan.taking), *map(_unreachable, plan.unreachable)])


def json(plan: Plan) -> str:
    """Return a plan on one line of JSON; nothing is cut or only counted."""
    return canonical_json(
        {
            "building": plan.building and asdict(plan.building),
            "jobs": plan.counts,
            "steps": {
                name: [{"why": asdict(why), "videos": hashes} for why, hashes in _by_why(due)]
                for name, due in plan.steps.items()
            },
            "removed": plan.last.removed(plan.graph),
            "renamed": plan.last.renamed(plan.graph),
            "corrected": {
                video: {kind: None if note is None else str(note) for kind, note in kinds.items()}
                for video, kinds in plan.last.edited(plan.graph).items()
            },
            "labels": plan.last.relabelled(plan.graph),
            "switched_off": plan.last.switched_off(plan.graph),
            "manifest": plan.manifest,
            "exports": sorted(plan.exports),
            "runs": [asdict(run) for run in plan.runs],
            "estimate": asdict(plan.taking),
            "unreachable": [asdict(one) for one in plan.unreachable],
        }
    )


def _by_why(due: dict[Video, Why]) -> list[tuple[Why, list[str]]]:
    found: dict[Why, list[str]] = {}
    for video, why in due.items():
        found.setdefault(why, []).append(video.hash)
    return [(why, sorted(hashes)) for why, hashes in found.items()]


def _videos(plan: Plan) -> Iterator[str]:
    """Yield a line for each reason, and for the steps that have the same videos due for it."""
    lines: dict[tuple[Why, tuple[str, ...]], list[str]] = {}
    for step, due in plan.steps.items():
        for why, hashes in _by_why(due):
            lines.setdefault((why, tuple(hashes)), []).append(step)
    sources = plan.graph.index.sources
    for (why, videos), steps in lines.items():
        names = _named(sources[video][0] for video in videos)
        yield f"{why.text(names)} → {', '.join(steps)} of {_count(videos, 'video')}"
    if idle := [step for step, due in plan.steps.items() if not due]:
        yield f"{', '.join(idle)}: nothing to make, all videos of the jobs are up to date"


def _manifest(plan: Plan) -> Iterator[str]:
    """Yield what changed in the manifest alone, and that it is written."""
    last, graph = plan.last, plan.graph
    now = {name for names in graph.index.sources.values() for name in names}
    gone = [name for names in last.removed(graph).values() for name in names if name not in now]
    if gone:
        yield f"{_named(gone)} removed"
    yield from _corrected(plan)
    yield from _relabelled(plan)
    if renamed := last.renamed(graph):
        every = [name for names in renamed.values() for name in names]
        yield f"under other names: {_named(every)}"
    if off := last.switched_off(graph):
        yield f"{', '.join(off)}: not asked for any more"
    if plan.manifest:
        yield "then the manifest"


def _corrected(plan: Plan) -> Iterator[str]:
    """Yield what was corrected by hand that no step reads that is due."""
    read = {kind for step, due in plan.steps.items() if due for kind in manifest.corrected(step)}
    same: dict[tuple[str, str | None], list[str]] = {}
    for video, kinds in plan.last.edited(plan.graph).items():
        for kind, note in kinds.items():
            if kind not in read:
                name = plan.graph.index.sources[video][0]
                said = None if note is None else str(note)
                same.setdefault((kind, said), []).append(name)
    yield from (told(kind, _named(names), note) for (kind, note), names in same.items())


def _relabelled(plan: Plan) -> Iterator[str]:
    """Yield what became of labels that no step reads that is due, but the manifest."""
    read = {kind for step, due in plan.steps.items() if due for kind in manifest.corrected(step)}
    for kind, videos in plan.last.relabelled(plan.graph).items():
        for done in sorted({*videos.values()}) if kind not in read else ():
            named = (name for name, became in videos.items() if became == done)
            names = _named(plan.graph.index.sources[one][0] for one in named)
            yield f"label of {names} {done} ({kind})"


def _run(run: DueRun) -> str:
    if not run.why:
        return f"run {run.name}: trained already, its job only looks ({printable(run.folder)})"
    before = f"; before: {printable(run.before)}, which stays" if run.before else ""
    return f"run {run.name}: {', '.join(run.why)} ({printable(run.folder)}{before})"


def _taking(taking: Taking) -> Iterator[str]:
    """Yield what a plan takes, and what of it isn't known."""
    without = f"; not known of {', '.join(taking.unknown)}" if taking.unknown else ""
    if taking.job_seconds:
        gpus = f", {_time(taking.gpu_seconds)} of GPUs" if taking.gpu_seconds else ""
        yield f"time: about {_time(taking.seconds)} here{gpus}, by past jobs{without}"
    elif without:
        yield f"time{without.removeprefix(';')}, which never ran here"
    if taking.bytes:
        yield f"writes: about {spelled(taking.bytes)}"


def _unreachable(one: Unreachable) -> str:
    where = f" ({_named(one.paths)})" if one.paths else ""
    size = f", {spelled(one.bytes)}" if one.bytes else ""
    return f"out of reach afterwards: {printable(one.what)}{where}{size}; `gc` removes it"


def _named(names: Iterable[str]) -> str:
    every = [printable(name) for name in names]
    more = [f"{len(every) - NAMED:,} more"] if len(every) > NAMED else []
    shown = [*every[:NAMED], *more]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things):,} {word}{'' if len(things) == 1 else 's'}"


def _time(seconds: float) -> str:
    """Return a duration in the unit that suits it: 12 s, 5 min, 3.5 h."""
    for limit, unit in ((120, "s"), (120, "min")):
        if seconds < limit:
            return f"{seconds:.0f} {unit}"
        seconds /= 60
    return f"{seconds:.1f} h"
