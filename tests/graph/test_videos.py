"""What a result waits for, what names it, and which records are asked for again."""

from pathlib import Path

import pytest

from spark_trainer.data.files import read_json, write_json
from spark_trainer.errors import UserError
from spark_trainer.steps import load

from .conftest import Ask

CAPTIONED = {"caption": {"captioner_backend": ["blip", "qwen2-vl"]}}


def test_a_step_waits_for_the_markers_of_those_that_it_reads(ask: Ask) -> None:
    graph = ask(**CAPTIONED)
    (shard,) = graph.index.shards
    waits = {
        step: [path.parent.relative_to(graph.layout.marker_folder("")).as_posix() for path in paths]
        for step in ("frames", "transcript", "caption/blip", "select", "manifest")
        for paths in [graph.upstream(step, shard.name)]
    }
    assert waits == {
        "frames": [],
        "transcript": ["audio"],
        "caption/blip": ["frames"],
        "select": ["caption/blip", "caption/qwen2-vl"],
        "manifest": ["frames", "audio", "transcript", "select"],
    }


def test_another_setting_is_another_marker_for_the_step_and_what_reads_it(ask: Ask) -> None:
    before, after = ask(), ask(frames={"frame_rate": 3})
    moved = {
        step
        for step in before.fingerprints
        if before.fingerprints[step] != after.fingerprints[step]
    }
    assert moved == {"frames", "caption/blip", "select", "manifest"}
    assert before.markers("audio") == after.markers("audio")
    assert before.manifest_marker != after.manifest_marker
    assert before.report_marker != after.report_marker


def test_a_model_trained_anew_moves_transcripts_and_what_reads_them(
    ask: Ask, tmp_path: Path
) -> None:
    """A run's folder keeps its name where only the weights in it are others."""
    final = tmp_path / "runs/words-0123abcd/final"
    final.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (final / name).write_text('{"model_type": "whisper"}')
    chosen = {"transcript": {"whisper_model": str(final)}, "caption": {"enabled": True}}
    before = ask(**chosen).fingerprints
    (final / "model.safetensors").write_text("other weights")
    after = ask(**chosen).fingerprints
    assert {step for step in before if before[step] != after[step]} == {"transcript", "manifest"}


def test_a_larger_marker_stands_for_what_is_left(ask: Ask) -> None:
    before = ask()
    (marker,) = before.markers("frames")
    marker.parent.mkdir(parents=True)
    marker.touch()
    (before.config.video_dirs[0] / "dog.mp4").unlink()
    after = ask()
    assert after.index.shards != before.index.shards
    assert after.markers("frames") == [marker]
    assert after.markers("audio") != before.markers("audio")


def test_settings_that_decide_nothing_are_written_over(ask: Ask) -> None:
    gpu, cpu = (ask(transcript={"device": device}) for device in ("cuda", "cpu"))
    path = gpu.settings("transcript")
    assert read_json(path)["settings"]["device"] == "cuda"
    assert cpu.settings("transcript") == path
    assert read_json(path)["settings"]["device"] == "cpu"


@pytest.mark.parametrize("step", ["frames", "caption/blip", "select"])
def test_a_record_that_failed_or_is_of_other_settings_is_outdated(ask: Ask, step: str) -> None:
    graph = ask()
    video = next(iter(graph.index.videos.values()))
    record = load(step).path(graph.layout, video)
    fine = {"status": "ok", "video": video.hash, "fingerprint": graph.fingerprints[step]}
    assert graph.outdated(step, video.folder) == []  # it is not there, which Snakemake sees
    for value, again in (
        (fine, False),
        (fine | {"status": "rejected"}, False),
        (fine | {"status": "failed"}, True),
        (fine | {"fingerprint": "0" * 16}, True),
        (fine | {"video": "0" * 64}, True),
    ):
        write_json(record, value)
        assert bool(graph.outdated(step, video.folder)) is again, value


def test_a_folder_of_no_video_is_named(ask: Ask) -> None:
    graph = ask()
    with pytest.raises(UserError, match=f"no video has the folder {graph.layout.root}/ab/cd"):
        graph.video("ab/cd")


def test_gpus_are_asked_for_by_steps_that_have_a_model(ask: Ask) -> None:
    away = ask(local=False)
    steps = ("frames", "audio", "transcript", "caption/blip", "select")
    assert [away.gpus(step) for step in steps] == [0, 0, 1, 1, 0]
    share = ask(transcript={"gpu_fraction": 0.5})
    assert [share.gpus("transcript"), share.gpus("caption/blip")] == [0, 1]


def test_the_list_of_parts_names_each_part_and_its_videos(ask: Ask) -> None:
    graph = ask(index={"shard_size": 1})
    listed = read_json(graph.part_list())
    assert [part for part, _ in listed] == [str(path) for path in graph.markers("manifest")]
    assert [len(read_json(graph.layout.root / shard)) for _, shard in listed] == [1, 1]
