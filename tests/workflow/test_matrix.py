"""What happens to a store, which jobs follow, and which bytes are there in the end."""

import re
import shutil
import wave
from collections.abc import Callable
from pathlib import Path

import pytest

from spark_trainer import steps
from spark_trainer.data import manifest
from tests.families import tiny
from tests.report.page.read import Page

from .conftest import REPO, Clips, Outcome, Workspace, source_tree

JOIN = {"manifest_join": 1, "manifest": 1}
DESCRIBING = tuple(step for step in steps.STEPS if step != "pose")  # which is off unless asked for


def jobs(shards: int, *steps: str) -> dict[str, int]:
    """The jobs of these steps over so many shards, and of the manifest over them."""
    rules = [*(f"{step}_shard" for step in steps), "manifest_part"]
    return dict.fromkeys(rules, shards) | JOIN


def without(digests: dict[str, str], *names: str) -> dict[str, str]:
    """Digests of the files outside of these folders, the manifest left out."""
    return {p: d for p, d in digests.items() if not p.startswith(("manifest", *names))}


@pytest.fixture(scope="module")
def fast(
    tmp_path_factory: pytest.TempPathFactory, first: tuple[Workspace, Outcome]
) -> tuple[Workspace, dict[str, int]]:
    """The first build after `frame_rate` was raised, and the jobs that it took."""
    workspace = first[0].copy(tmp_path_factory.mktemp("fast"))
    workspace.configure("frames", frame_rate=4)
    return workspace, workspace.build()


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory, clips: Clips) -> Workspace:
    """One clip through every step that describes it."""
    workspace = Workspace(tmp_path_factory.mktemp("described"))
    workspace.add("dog", clips.content("dog", ""))
    _describe(workspace)
    assert workspace.build() == jobs(1, *DESCRIBING)
    return workspace


def _describe(workspace: Workspace) -> None:
    workspace.configure(
        "transcript",
        enabled=True,
        backend="faster-whisper",
        whisper_model="offline-tiny.en",
        device="auto",
    )
    workspace.configure("caption", enabled=True, captioner_backend="imagenet-tags", threshold=0.0)


@pytest.fixture
def upgraded(tmp_path: Path) -> Path:
    return source_tree(tmp_path / "upgraded")


def _edit(path: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count, pattern
    path.write_text(text, encoding="utf-8")


def test_first_build(first: tuple[Workspace, Outcome]) -> None:
    workspace, outcome = first
    assert outcome.jobs == jobs(2, "frames", "audio")
    entries = workspace.manifest()
    assert list(entries) == [workspace.place(name) for name in ("dog", "cup", "bunny")]
    assert [bool(entry["audio"]) for entry in entries.values()] == [True, True, False]
    assert list(manifest.problems(workspace.output / "manifest_v1.jsonl")) == []


def test_no_op(built: Workspace, before: dict[str, str]) -> None:
    assert built.build() == {}
    assert built.digests() == before


def test_add_then_delete(built: Workspace, clips: Clips, before: dict[str, str]) -> None:
    """The rest needs no work when a video goes, nor does the video when it comes back."""
    old = built.manifest()
    new = built.add("again", clips.content("dog", "110"))
    assert built.build() == jobs(1, "frames", "audio")
    entries = built.manifest()
    assert list(entries) == [*old, new]
    assert {place: entries[place] for place in old} == old
    assert without(built.digests(), new) == without(before)
    assert list(manifest.problems(built.output / "manifest_v1.jsonl")) == []
    with_new = built.digests()
    (built.clips / "again.mp4").rename(built.folder / "again.mp4")
    assert built.build() == JOIN
    assert built.digests("jsonl") == {p: d for p, d in before.items() if p.endswith("jsonl")}
    (built.folder / "again.mp4").rename(built.clips / "again.mp4")
    assert built.build() == JOIN
    assert built.digests() == with_new


def test_change(built: Workspace, clips: Clips, before: dict[str, str]) -> None:
    old, gone = built.manifest(), built.place("cup")
    new = built.add("cup", clips.content("bunny", "011"))
    assert built.build() == jobs(1, "frames", "audio")
    entries = built.manifest()
    assert list(entries) == [built.place("dog"), new, built.place("bunny")]
    assert entries[new]["audio"] is None
    del old[gone], entries[new]
    assert entries == old
    assert without(built.digests(), new) == without(before)


def _move(clips: Path) -> None:
    (clips / "deeper").mkdir()
    (clips / "cup.mp4").rename(clips / "deeper/another name.mp4")


def _touch(clips: Path) -> None:
    (clips / "cup.mp4").touch()


def _duplicate(clips: Path) -> None:
    shutil.copy(clips / "cup.mp4", clips / "a second name.mp4")


@pytest.mark.parametrize(
    ("act", "expected", "sources"),
    [
        (_move, JOIN, ["deeper/another name.mp4"]),
        (_touch, {}, ["cup.mp4"]),
        (_duplicate, JOIN, ["a second name.mp4", "cup.mp4"]),
    ],
)
def test_names(
    built: Workspace,
    before: dict[str, str],
    act: Callable[[Path], None],
    expected: dict[str, int],
    sources: list[str],
) -> None:
    """A content that lies elsewhere, or twice, is the same content."""
    entries, place = built.manifest(), built.place("cup")
    act(built.clips)
    assert built.build() == expected
    entries[place]["meta"] |= {"source_path": sources[0], "sources": sources}
    assert built.manifest() == entries
    assert without(built.digests()) == without(before)


def test_delete_all(built: Workspace) -> None:
    for clip in built.clips.iterdir():
        clip.unlink()
    stopped = built.snakemake("manifest")
    assert stopped.status != 0
    assert "video_dir: no video in clips, which held 3 in the last build" in stopped.stderr
    built.configure("index", allow_empty=True)
    assert built.build() == JOIN
    assert built.manifest() == {}


def test_frame_rate_there_and_back(
    tmp_path: Path, fast: tuple[Workspace, dict[str, int]], before: dict[str, str]
) -> None:
    """A -> B -> A ends with A's frames."""
    workspace, made = fast
    assert made == jobs(2, "frames")
    assert workspace.digests(r"audio\.") == {p: d for p, d in before.items() if "audio." in p}
    for meta in (entry["meta"] for entry in workspace.manifest().values()):
        assert len(meta["frame_times"]) == pytest.approx(4 * meta["duration"], abs=1)
    back = workspace.copy(tmp_path)
    back.configure("frames", frame_rate=1.0)
    assert back.build() == jobs(2, "frames")
    assert back.digests() == before


def test_sample_rate(built: Workspace, before: dict[str, str]) -> None:
    built.configure("audio", sample_rate=8000)
    assert built.build() == jobs(2, "audio")
    with wave.open(str(built.output / built.place("dog") / "audio.wav")) as file:
        assert file.getframerate() == 8000
    assert built.digests("frames") == {p: d for p, d in before.items() if "frames" in p}


def test_transcript_setting(tmp_path: Path, described: Workspace) -> None:
    workspace = described.copy(tmp_path)
    workspace.configure("transcript", silence_db=0.0)
    assert workspace.build() == jobs(1, "transcript")
    (old,), (new,) = described.manifest().values(), workspace.manifest().values()
    assert old["meta"].pop("no_transcript", None) != new["meta"].pop("no_transcript")
    assert new == old


def test_caption_setting(tmp_path: Path, described: Workspace) -> None:
    workspace = described.copy(tmp_path)
    workspace.configure("caption", threshold=1.0)
    assert workspace.build() == jobs(1, "caption", "select")
    (old,), (new,) = described.manifest().values(), workspace.manifest().values()
    assert old["meta"].pop("caption") != new["meta"].pop("caption")
    assert new == old


def test_another_captioner(tmp_path: Path, described: Workspace) -> None:
    """It captions beside the first, which captions nothing again; the selection names one."""
    workspace = described.copy(tmp_path)
    checkpoint = tiny.qwen2_5_vl(tmp_path / "qwen")
    workspace.configure(
        "caption",
        captioner_backend=["imagenet-tags", "qwen2-vl"],
        backends={"qwen2-vl": {"model_name": str(checkpoint), "device": "auto"}},
        max_new_tokens=4,
    )
    tags = described.digests("caption/imagenet-tags")
    assert workspace.build() == jobs(1, "caption", "select")
    workspace.configure("select", by="longest")
    made = {"select_shard": 1, "manifest_part": 1, "manifest_join": 1}
    assert workspace.build("report") == made | {"report_page": 1, "report": 1}
    (entry,) = workspace.manifest().values()
    captions = entry["meta"]["captions"]
    page = Page(workspace.output / "report.html")
    (shown,) = page.data("texts-0")
    said = {by: text for by, _, text, _, _ in shown["captions"]}
    assert said == {by: one["caption"] for by, one in captions.items()}
    assert set(captions) == {"imagenet-tags", "qwen2-vl"}
    assert entry["meta"]["caption"] == captions[entry["meta"]["captioner"]]["caption"]
    workspace.configure("caption", captioner_backend="imagenet-tags", backends={})
    workspace.configure("select", by="first")
    assert workspace.build("report") == made | {"report_page": 1, "report": 1}
    assert workspace.build("report") == {}
    assert workspace.manifest() == described.manifest()
    assert workspace.digests("caption/imagenet-tags") == tags


@pytest.mark.long
def test_pose_there_and_back(tmp_path: Path) -> None:
    """Switched on, set otherwise, set back: nothing else runs, and the bytes are the first ones."""
    workspace = Workspace(tmp_path)
    place = workspace.add("speaker", (REPO / "tests/assets/speaker.mp4").read_bytes())
    workspace.configure("audio", enabled=False)
    assert workspace.build() == jobs(1, "frames")
    without_pose = workspace.digests()
    workspace.configure("pose", enabled=True, max_seconds=0.5)
    assert workspace.build() == jobs(1, "pose")
    [entry] = workspace.manifest().values()
    assert entry["meta"]["pose"]["dir"] == f"{place}/pose"
    assert entry["meta"]["pose"]["frames"] == 8
    assert list(manifest.problems(workspace.output / "manifest_v1.jsonl")) == []
    made = workspace.digests("pose/|manifest|frames")
    assert workspace.build() == {}
    workspace.configure("pose", max_seconds=0.25)
    assert workspace.build() == jobs(1, "pose")
    [entry] = workspace.manifest().values()
    assert entry["meta"]["pose"]["frames"] == 4
    workspace.configure("pose", max_seconds=0.5)
    assert workspace.build() == jobs(1, "pose")
    assert workspace.digests("pose/|manifest|frames") == made
    shutil.rmtree(workspace.output / place / "pose")
    assert workspace.build(f"out/{place}/pose") == {"pose_file": 1}
    (workspace.output / place / "pose.json").unlink()
    assert workspace.build(f"out/{place}/pose.json") == {"pose": 1}
    assert workspace.digests("pose/|manifest|frames") == made
    workspace.configure("pose", enabled=False)
    assert workspace.build()["manifest_join"] == 1
    assert {p: d for p, d in workspace.digests().items() if "pose" not in p} == without_pose


def test_upgrade_of_one_step(tmp_path: Path, described: Workspace, upgraded: Path) -> None:
    """A step that says that its results changed is run again with what reads them, no other."""
    _edit(upgraded / "spark_trainer/steps/audio.py", r"VERSION = \d+", "VERSION = 99")
    workspace = described.copy(tmp_path, upgraded)
    manifest_bytes = described.digests("manifest")
    assert workspace.build() == jobs(1, "audio", "transcript")
    assert workspace.digests("manifest") == manifest_bytes
    assert workspace.digests("frames|caption") == described.digests("frames|caption")
    assert workspace.digests(r"audio\.json") != described.digests(r"audio\.json")


def test_upgrade_of_rules_only(
    tmp_path: Path, first: tuple[Workspace, Outcome], upgraded: Path, before: dict[str, str]
) -> None:
    for name in ("common", "manifest"):
        _edit(upgraded / f"rules/{name}.smk", r'^( +"python -m spark_trainer) ', r"\1  ")
    workspace = first[0].copy(tmp_path, upgraded)
    assert workspace.build() == {}
    assert workspace.digests() == before


def test_failure_once(
    tmp_path: Path,
    first: tuple[Workspace, Outcome],
    fast: tuple[Workspace, dict[str, int]],
    before: dict[str, str],
) -> None:
    """What a failed job left undone is due in the next run, with nothing stale in the end."""
    forward = first[0].copy(tmp_path / "forward")
    obstacle = forward.output / forward.place("cup")
    hidden = obstacle.with_name("aside")
    obstacle.rename(hidden)
    obstacle.write_text("in the way", encoding="utf-8")
    forward.configure("frames", frame_rate=4)
    failed = forward.snakemake("manifest")
    assert failed.status != 0
    assert failed.jobs == {"frames_shard": 1, "manifest_part": 1}
    assert "Not a directory" in failed.stderr
    obstacle.unlink()
    hidden.rename(obstacle)
    back = forward.copy(tmp_path / "back")
    assert forward.build() == {"frames_shard": 1, "manifest_part": 1} | JOIN
    assert forward.digests() == fast[0].digests()
    back.configure("frames", frame_rate=1.0)
    assert back.build() == jobs(1, "frames")  # the other shard was not touched
    assert back.digests() == before


def test_regrouping(fresh: Workspace, clips: Clips, before: dict[str, str]) -> None:
    """Neither the folder nor the shards show in the results, and new shards make no new frames."""
    fresh.configure("index", shard_size=3)
    assert fresh.build() == jobs(1, "frames", "audio")
    assert fresh.digests() == before
    frames = fresh.output / fresh.place("dog") / "frames"
    made = frames.stat().st_mtime_ns
    extra = fresh.add("extra", clips.content("cup", "11"))
    assert fresh.build() == jobs(2, "frames", "audio")
    assert without(fresh.digests(), extra) == without(before)
    (fresh.clips / "extra.mp4").unlink()
    assert fresh.build() == jobs(1, "frames", "audio")
    shutil.rmtree((fresh.output / extra).parent)
    assert fresh.digests() == before
    assert frames.stat().st_mtime_ns == made


def test_one_video(fresh: Workspace) -> None:
    """A caption of one video builds that video's chain and nothing else."""
    _describe(fresh)
    place = fresh.place("bunny")
    assert fresh.build(f"out/{place}/caption.json") == {"frames": 1, "caption": 1, "select": 1}
    assert {"/".join(Path(name).parts[:2]) for name in fresh.digests()} == {place}


def test_deleted_files(built: Workspace, before: dict[str, str]) -> None:
    place = built.place("cup")
    targets = [f"out/{place}/frames", f"out/{place}/audio.wav"]
    assert built.build(*targets) == {}
    shutil.rmtree(built.folder / targets[0])
    (built.folder / targets[1]).unlink()
    assert built.build(*targets) == {"frames_file": 1, "audio_file": 1}
    assert without(built.digests(r"/frames/frame|\.wav|/[a-z]+\.json$")) == {
        path: digest for path, digest in before.items() if "_v1." not in path
    }
    assert built.build(*targets, "manifest") == {}


def test_record_with_other_settings(built: Workspace, before: dict[str, str]) -> None:
    """One video is made with other settings, and the bulk build does not take it for its own."""
    place = built.place("cup")
    built.configure("frames", frame_rate=4)
    assert built.build(f"out/{place}/frames.json") == {"frames": 1}
    assert len(built.digests(f"{place}/frames/")) == 8
    assert without(built.digests(), place) == without(before, place)
    built.configure("frames", frame_rate=1.0)
    assert built.build() == jobs(1, "frames")
    assert built.digests() == before


def test_named_folders(fresh: Workspace, clips: Clips) -> None:
    """Folders named after files follow the content under the name, there and back."""
    fresh.config |= {"deterministic_layout": False, "audio": {"enabled": False}}
    fresh.build()
    before = fresh.digests()
    assert {name.split("/")[0] for name in before if "/" in name} == {"dog", "cup", "bunny"}
    old = (fresh.clips / "dog.mp4").read_bytes()
    fresh.add("dog", clips.content("cup", "111"))
    assert fresh.build() == jobs(1, "frames")
    changed = fresh.digests()
    assert {name for name in before if before[name] != changed.get(name)} >= {
        "dog/frames.json",
        "dog/frames/frame_000001.jpg",
        "manifest_v1.jsonl",
    }
    fresh.add("dog", old)
    assert fresh.build() == jobs(1, "frames")
    assert fresh.digests() == before
