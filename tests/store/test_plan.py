"""Why a result or a run is due, and what it will take, from what a store has recorded."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spark_trainer import steps
from spark_trainer.config import load
from spark_trainer.data import corrections, index, manifest
from spark_trainer.data.files import write_json
from spark_trainer.data.layout import Layout, Shard
from spark_trainer.data.lock import Holder
from spark_trainer.graph.runs import RunGraph
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.steps.record import Record
from spark_trainer.store import plan_text
from spark_trainer.store.costs import Costs
from spark_trainer.store.due_runs import DueRun, earlier_runs
from spark_trainer.store.last_build import LastBuild
from spark_trainer.store.plan import Job, Machine, Plan
from spark_trainer.store.why import Reasons

STEPS = ("frames", "audio", "transcript", "caption/blip", "select")
Ask = Callable[..., VideoGraph]


@pytest.fixture
def ask(two_clips: dict[str, str]) -> Ask:
    """Make the graph of two clips under some settings."""

    def ask(**keys: Any) -> VideoGraph:
        config = load({**two_clips, **keys})
        return VideoGraph(config, index.scan(config))

    return ask


def record(graph: VideoGraph, step: str, said: Record | None = None, **stamp: Any) -> None:
    """Let a step have said something of every video; that there is nothing to make, if not told."""
    made_by = steps.load(step)
    graph.settings(step)
    for video in graph.index.videos.values():
        stamps = {
            "step": step,
            "version": made_by.VERSION,
            "fingerprint": graph.fingerprints[step],
            "video": video.hash,
        }
        made = said or made_by.RECORD.nothing("nothing")
        path = made_by.path(graph.layout, video)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(made, **stamps | stamp).write(path)


def why(graph: VideoGraph, step: str, **known: Any) -> set[tuple[str, ...]]:
    """The reasons for which a step is due over all videos; none if it isn't."""
    (shard,) = graph.index.shards
    found = Reasons(graph, **known).due(step, shard)
    assert len(found) in (0, 2)
    return {(one.kind, *one.details) for one in found.values()}


@pytest.fixture
def made(ask: Ask) -> VideoGraph:
    """A store with a record of each step of each video."""
    graph = ask()
    for step in STEPS:
        record(graph, step)
    return graph


def test_a_video_is_added_or_its_file_is_changed(ask: Ask) -> None:
    graph = ask()
    assert why(graph, "frames") == why(graph, "select") == {("added",)}
    before = {"dog.mp4": "0" * 64, "title.mp4": "1" * 64}
    assert why(graph, "frames", built=before) == {("changed",)}
    record(graph, "frames")
    assert why(graph, "frames") == set()
    assert why(graph, "audio") == {("first",)}
    before = {names[0]: video for video, names in graph.index.sources.items()}
    elsewhere = ask(deterministic_layout=False)
    assert why(elsewhere, "frames", built=before) == {("first",)}


def test_a_setting_is_told_by_each_step_that_it_reaches(made: VideoGraph, ask: Ask) -> None:
    after = ask(frames={"frame_rate": 2})
    told = {("settings", "frames.frame_rate: 1 → 2")}
    assert [why(after, step) for step in STEPS] == [told, set(), set(), told, told]
    both = ask(frames={"frame_rate": 2}, select={"by": "agreement"})
    [(_, *details)] = why(both, "select")
    assert details == ["select.by: first → agreement", "frames.frame_rate: 1 → 2"]


def test_a_runtime_setting_is_no_reason(made: VideoGraph, ask: Ask) -> None:
    after = ask(caption={"device": "cpu"}, transcript={"batch_size": 3})
    assert not any(why(after, step) for step in STEPS)


def test_a_marker_of_other_settings_answers_for_its_videos(made: VideoGraph, ask: Ask) -> None:
    """Unless the next build takes it back."""
    (shard,) = made.index.shards
    marker = made.marker("audio", shard)
    marker.parent.mkdir(parents=True)
    marker.write_text("{}")
    after = ask(audio={"sample_rate": 8000})
    told = {("settings", "audio.sample_rate: 16000 → 8000")}
    assert why(after, "audio") == told
    for video in made.index.videos.values():
        made.layout.record(video, "audio").unlink()
    assert why(after, "audio") == told
    assert why(after, "audio", untrue=frozenset([marker])) == {("gone", "audio")}


def test_a_single_video_is_asked_for_by_itself(made: VideoGraph, ask: Ask) -> None:
    video = next(iter(made.index.videos.values()))
    after = ask(audio={"sample_rate": 8000})
    [(due, one)] = Reasons(after).due("audio", Shard(video.bits, (video,))).items()
    assert (due, one.details) == (video, ("audio.sample_rate: 16000 → 8000",))


def test_another_version_of_a_step_is_told(made: VideoGraph) -> None:
    graph, step = made, steps.load("frames")
    settings = steps.section(graph.config, "frames").results()
    old = steps.digested("frames", step.VERSION - 1, settings, None, [])
    record(graph, "frames", version=step.VERSION - 1, fingerprint=old)
    told = f"frames: version {step.VERSION - 1} → {step.VERSION} of its results"
    (graph.layout.settings("frames", old)).write_bytes(graph.settings("frames").read_bytes())
    assert why(graph, "frames") == {("settings", told)}


def test_other_weights_are_told(ask: Ask, tmp_path: Path) -> None:
    """Of a folder that keeps its name."""
    final = tmp_path / "runs/words-0123abcd/final"
    final.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (final / name).write_text('{"model_type": "whisper"}')
    chosen = {"transcript": {"whisper_model": str(final)}}
    record(ask(**chosen), "transcript")
    (final / "model.safetensors").write_text("other weights")
    assert why(ask(**chosen), "transcript") == {("settings", "transcript: another model")}


def test_failures_and_damage_are_told(made: VideoGraph) -> None:
    record(made, "audio", steps.load("audio").RECORD.failed("no space"))
    assert why(made, "audio") == {("failed", "no space")}
    for video in made.index.videos.values():
        made.layout.record(video, "frames").write_text("{")
    assert why(made, "frames") == {("damaged", "frames.json")}
    record(made, "frames", video="0" * 64)
    assert why(made, "frames") == {("changed",)}


def test_a_correction_by_hand_is_told(made: VideoGraph, ask: Ask) -> None:
    """Of the step that reads it, as long as the last build has not."""

    def due(graph: VideoGraph) -> list[str]:
        [shard] = graph.index.shards
        found = Reasons(graph).due("select", graph.told("select", shard))
        return [why.text("dog.mp4") for why in found.values()]

    video = next(iter(made.index.videos))
    folder, layout = made.config.corrections, made.layout
    corrections.edit(folder, layout, video, {"transcript": "wuff"}, "Ada")
    assert due(ask()) == []
    corrections.edit(folder, layout, video, {"caption": "a dog", "flag": "?"}, "Ada")
    graph = ask()
    day = str(graph.index.notes[video]["caption"])[-10:]
    assert due(graph) == [f"caption of dog.mp4 corrected by hand (Ada, {day})"]
    read = graph.told("select", graph.index.shards[0]).videos[0].correction
    record(graph, "select", correction=read)
    assert len(due(graph)) == 1  # of the other, which is not corrected
    corrections.edit(folder, layout, video, {"caption": None}, "Ada")
    assert due(ask()) == ["correction of the caption of dog.mp4 taken back"] * 2


def test_settings_that_are_not_known_any_more(made: VideoGraph) -> None:
    record(made, "frames", fingerprint="0" * 16)
    [(kind, said)] = why(made, "frames")
    assert (kind, said) == ("settings", "frames: other settings, not known any more")


def test_the_state_of_the_last_build_is_found(ask: Ask, two_clips: dict[str, str]) -> None:
    """By what the manifest's job noted; where that is gone, by the manifest, which says less."""
    flagged = corrections_of(ask(), flag="?")
    graph = ask()
    assert LastBuild.find(graph) == LastBuild()
    noted = {"snapshot": graph.index.snapshot, "steps": steps.reported(graph.config)}
    write_json(graph.layout.built, noted)
    clip = Path(two_clips["video_dir"], "dog.mp4")
    clip.rename(clip.with_name("hound.mp4"))
    clip.with_name("title.mp4").unlink()
    after = ask(transcript={"enabled": False}, audio={"enabled": False})
    last = LastBuild.find(after)
    assert [*last.removed(after).values()] == [["title.mp4"]]
    assert [*last.renamed(after).values()] == [["hound.mp4"]]
    assert last.switched_off(after) == ["audio", "transcript"]
    assert last.edited(after) == {}
    corrections_of(after, flag="!")
    edited = ask()
    assert [*last.edited(edited)] == [flagged]
    graph.layout.built.unlink()
    entries = [
        {"id": video, "frames_dir": None, "audio": None, "meta": {"sources": names}}
        for video, names in sorted(last.sources.items())
    ]
    manifest.write(graph.layout.manifest, entries)
    assert LastBuild.find(edited).removed(edited) == last.removed(edited)
    assert LastBuild.find(edited).edited(edited) == {}
    for damaged in ({"snapshot": 1}, noted | {"steps": 2}, {}):
        write_json(graph.layout.built, damaged)
        assert LastBuild.find(edited).removed(edited) == last.removed(edited)
    graph.layout.manifest.write_text("[")
    assert LastBuild.find(edited) == LastBuild()


def corrections_of(graph: VideoGraph, **said: str) -> str:
    """Correct the video whose file stays by hand; returns its hash."""
    [video] = [one for one, names in graph.index.sources.items() if "title.mp4" not in names]
    corrections.edit(graph.config.corrections, graph.layout, video, {**said}, "Ada")
    return video


def shard_job(graph: VideoGraph, step: str) -> Job:
    (shard,) = graph.index.shards
    marker = graph.marker(step, shard)
    wildcards = {"shard": shard.name, "fingerprint": graph.fingerprints[step]}
    read = tuple(map(str, graph.upstream(step, shard.name)))
    return Job(f"{step}_shard", wildcards, read, (str(marker),), threads=8, gpus=0)


def worked(graph: VideoGraph, step: str, past: list[tuple[int, float]]) -> None:
    """Leave what jobs over so many videos leave that took so many seconds."""
    for number, (videos, seconds) in enumerate(past):
        name = f"b{number}.{'0' * 16}.{graph.fingerprints[step]}"
        marker = graph.layout.marker_folder(step) / f"{name}.jsonl"
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_json(marker, {"ok": videos, "current": 3})
        noted = Path("benchmarks/jobs") / step / f"{name}.tsv"
        noted.parent.mkdir(parents=True, exist_ok=True)
        noted.write_text(f"s\th:m:s\n{seconds}\t0:00:01\n")


def test_jobs_of_one_size_do_not_tell_what_starting_them_takes(
    made: VideoGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shortest job of any kind does; a line through them would be made of noise."""
    monkeypatch.chdir(tmp_path)
    worked(made, "frames", [(45, 9.1), (47, 8.9), (50, 9.0), (50, math.nan)])
    worked(made, "audio", [(45, 1.0)])
    Path("benchmarks/jobs/audio/cut.tsv").write_bytes(b"s\th:m:s\n\0\xff")  # by a kill
    rate = Costs(made, ["frames"]).rates["frames"]
    assert (rate.job_s, rate.video_s) == pytest.approx((1.0, 24 / 142))


def test_jobs_that_only_looked_tell_no_time(
    made: VideoGraph, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after another `index.shard_size`; those that will only look take no more than a start."""
    monkeypatch.chdir(tmp_path)
    worked(made, "frames", [(0, 2.0), (0, 3.0)])
    after = ask(frames={"frame_rate": 2})
    taking = Plan(after, [shard_job(after, "frames")], [], Machine(cores=4, gpus=0)).taking
    assert (taking.seconds, taking.unknown) == (0, ("frames",))
    looks = Plan(made, [shard_job(made, "frames")], [], Machine(cores=4, gpus=0)).taking
    assert (looks.seconds, looks.unknown) == (2.0, ())


def test_encoding_is_estimated_by_what_is_not_encoded(
    made: VideoGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a shard, or of a given manifest: here two seconds for each video."""
    monkeypatch.chdir(tmp_path)
    worked(made, "audio", [(1, 1.0)])  # a second is what a job takes to start
    encoders, fingerprint, layout = "e" * 16, "f" * 16, made.layout
    past = layout.encode_marker(encoders, "b.0", fingerprint)
    write_json(past, {"ok": 5})
    noted = Path("benchmarks/jobs/encode", encoders, f"{past.stem}.tsv")
    noted.parent.mkdir(parents=True)
    noted.write_text("s\th:m:s\n11\t0:00:11\n")
    (shard,) = made.index.shards
    encoded, new = shard.videos
    write_json(Layout(layout.encoded(encoders)).record(encoded, fingerprint), {})
    given, no_files = tmp_path / "given.jsonl", {"frames_dir": None, "audio": None, "meta": {}}
    manifest.write(given, [{"id": one, **no_files} for one in (*"xyz", new.hash, encoded.hash)])

    def seconds(shard: str) -> float:
        said = {"encoders": encoders, "shard": shard, "fingerprint": fingerprint}
        job = Job("encode_shard", said, [str(given)], ["marker"], threads=4, gpus=0)
        return Plan(made, [job], [], Machine(cores=4, gpus=0)).taking.seconds

    assert [seconds(one) for one in (shard.name, "1" * 16)] == pytest.approx([1 + 2, 1 + 4 * 2])


def test_time_is_estimated_from_past_jobs(
    made: VideoGraph, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds for a job and half a second for each video; what never ran is named."""
    monkeypatch.chdir(tmp_path)
    worked(made, "frames", [(0, 2.0), (10, 7.0), (4, 4.0)])
    rate = Costs(made, ["frames"]).rates["frames"]
    assert (rate.job_s, rate.video_s) == pytest.approx((2.0, 0.5))
    after = ask(frames={"frame_rate": 2}, audio={"sample_rate": 8000})
    jobs = [shard_job(after, "frames"), shard_job(after, "audio")]
    taking = Plan(after, jobs, [], Machine(cores=4, gpus=0)).taking
    assert taking.seconds == pytest.approx(2 + 2 * 0.5)
    assert (
        Plan(after, jobs, [], Machine(4, 0), planning_s=1.5).taking.seconds == taking.seconds + 1.5
    )
    assert taking.unknown == ("audio",)
    told = plan_text.text(Plan(after, jobs, [], Machine(cores=4, gpus=0)))
    assert "frames.frame_rate: 1 → 2 → frames of 2 videos" in told.splitlines()
    assert "time: about 3 s here, by past jobs; not known of audio" in told.splitlines()


def test_a_run_is_new_or_says_what_sets_it_apart(ask: Ask, tmp_path: Path) -> None:
    def spec(graph: VideoGraph) -> Any:
        return RunGraph(graph).specs["slow"]

    def reasons(graph: VideoGraph) -> list[str]:
        found = spec(graph)
        return list(DueRun.of(found, earlier_runs(found)).why)

    train: dict[str, Any] = {"output_dir": str(tmp_path / "runs"), "runs": {"slow": {}}}
    graph = ask(train=train)
    assert reasons(graph) == ["new"]
    first = spec(graph)
    first.folder.path.mkdir(parents=True)
    LaunchedRun.of(first, 1, 1, "cpu").write(first.folder)
    assert reasons(graph) == ["was interrupted, and begins again"]
    first.folder.checkpoint(7).mkdir(parents=True)
    assert reasons(graph) == ["was interrupted, and goes on from update 7"]
    first.folder.summary.write_text("{}")
    assert reasons(graph) == []
    assert reasons(ask(train=train, frames={"frame_rate": 2})) == ["its data changed"]
    faster = train | {"learning_rate": 0.5}
    assert reasons(ask(train=faster)) == [f"learning_rate: {first.settings.learning_rate:g} → 0.5"]
    found = spec(ask(train=faster))
    assert DueRun.of(found, earlier_runs(found)).before == first.folder.name


def test_what_is_told_is_short_and_moves_no_cursor(ask: Ask, two_clips: dict[str, str]) -> None:
    """However many videos are gone, and whatever the folders are called."""
    output = f"{two_clips['output_dir']}\x1b[2J"
    graph = ask(output_dir=output)
    write_json(graph.layout.built, {"snapshot": graph.index.snapshot, "steps": []})
    for video in graph.index.videos.values():
        graph.layout.folder(video).mkdir(parents=True)
    for clip in Path(two_clips["video_dir"]).iterdir():
        clip.unlink()
    after = ask(output_dir=output, index={"allow_empty": True})
    plan = Plan(after, [Job("manifest", {}, [], [], threads=1, gpus=0)], [], Machine(1, 0))
    [gone] = plan.unreachable
    assert len(gone.paths) == 2
    told = plan_text.text(plan)
    assert "out of reach afterwards: results of 2 removed videos (" in told
    assert "\x1b" not in told


def test_nothing_to_do_is_said(made: VideoGraph) -> None:
    assert plan_text.text(Plan(made, [], [], Machine(1, 0))) == "nothing to do"


def test_a_build_that_is_at_work_is_told(made: VideoGraph) -> None:
    building = Holder("x", "node7", 42, "snakemake manifest", "/films", 0.0, [])
    said = Plan(made, [], [], Machine(1, 0), building=building)
    first, last = plan_text.text(said).splitlines()
    assert first.startswith(
        "a build is at work: process 42 on node7 (snakemake manifest, in /films"
    )
    assert last == "nothing to do"
    assert json.loads(plan_text.json(said))["building"]["pid"] == 42
