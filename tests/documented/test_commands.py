"""A user's day in a fresh clone: every command of the pages as it stands, and what it did.

A command that can't be run here stands in elsewhere.py: who runs it, or nobody and why.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from spark_trainer.config import Run
from spark_trainer.system import gpu
from tests import ffmpeg
from tests.families import tiny
from tests.report.page.read import Page
from tests.whisper_weights import base as whisper_base

from .clone import Clone
from .elsewhere import ELSEWHERE, NOBODY
from .pages import ROOT, commands
from .test_examples import SHOWN, SPEAKER

no_gpu = pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")
SPOKEN = 25  # recordings of the demo
VIDEOS = 6  # its other clips, besides one that is broken; one of them has two names
DEMO, PICTURES = (
    yaml.safe_load((ROOT / "config" / name).read_text(encoding="utf-8"))
    for name in ("config.yaml", "examples/blip_small.yaml")
)
SMALL = PICTURES["train"] | {"output_dir": "runs"}
EDITED = DEMO | {"video_dir": PICTURES["video_dir"], "train": SMALL}
OFF = {step: {"enabled": False} for step in ("transcript", "caption")}
DAY: dict[str, Callable[[Clone, str], None]] = {}


def typed(*lines: str) -> Callable[[Callable[[Clone, str], None]], Callable[[Clone, str], None]]:
    """Put commands into the day, in the order of this file."""

    def put(act: Callable[[Clone, str], None]) -> Callable[[Clone, str], None]:
        DAY.update(dict.fromkeys(lines, act))
        return act

    return put


def configure(clone: Clone, **values: object) -> None:
    """Edit config/config.yaml, as the pages say: other videos, another model, these values."""
    (clone.folder / "config/config.yaml").write_text(yaml.safe_dump(EDITED | values))


def one_of(clone: Clone, name: str) -> str:
    """The folder of a video, as the pages write it: ab/<sha256>."""
    [line] = [one for one in clone.manifest() if one["meta"]["source_path"] == name]
    return str(line["frames_dir"]).removesuffix("/frames")


@typed("snakemake -n manifest")
def only_tells(clone: Clone, line: str) -> None:
    assert "frames_shard" in clone.type(line).stdout
    assert not (clone.folder / "data/processed/manifest_v1.jsonl").exists()


@typed("snakemake --profile slurm -n")
def tells_what_would_be_sent(clone: Clone, line: str) -> None:
    job = clone.type(line).stdout.partition("rule train_run:")[2].partition("\n\n")[0]
    assert "gpu=8" in job
    assert "mem_mb=64000" in job
    assert "runtime=" in job


@typed("snakemake --dag | dot -Tsvg")
def draws_the_graph(clone: Clone, line: str) -> None:
    drawn = clone.type(line if shutil.which("dot") else line.partition("|")[0]).stdout
    assert "manifest_join" in drawn
    assert "train_run" in drawn


@typed("snakemake --cores 32 manifest")
def builds_the_manifest(clone: Clone, line: str) -> None:
    clone.type(line)
    lines = clone.manifest()
    assert len(lines) == VIDEOS + SPOKEN
    for one in lines:
        assert (clone.folder / "data/processed" / one["frames_dir"] / "frame_000001.jpg").is_file()
        assert one["meta"]["caption"] is not None
        assert {"transcript", "duration", "source_path"} <= one["meta"].keys()
    rejected = (clone.folder / "data/processed/rejected_v1.jsonl").read_text().splitlines()
    assert [json.loads(one)["source_path"] for one in rejected] == ["broken.mp4"]
    assert not list(clone.folder.glob("runs/*/final"))


@typed("snakemake manifest", "SPARK_TRAINER_SCREEN=off snakemake --cores 32 manifest")
def has_nothing_to_do(clone: Clone, line: str) -> None:
    before = clone.manifest()
    done = clone.type(line)
    assert "Nothing to be done" in done.stdout + done.stderr
    assert clone.manifest() == before


@typed("snakemake train --resources gpu=8")
def trains_the_demo(clone: Clone, line: str) -> None:
    """It hears the names that it is taught, on the CPU; without a target the page is made, too."""
    assert "left out of train: 5 videos, without a reference: " in clone.type(line).stderr
    run, asked = clone.trained(), DEMO["train"]
    plain = {key: value for key, value in asked.items() if not isinstance(value, dict)}
    assert {key: run.settings[key] for key in plain} == plain
    assert len(run.updates) == asked["max_steps"]
    summary = json.loads((run.folder / "trained.json").read_text())
    assert (summary["steps"], summary["device"]) == (asked["max_steps"], "cpu")
    assert summary["first_scores"]["wer_long"] > 45
    assert summary["scores"]["wer_long"] < 25
    assert (run.folder / "final/model.safetensors").is_file()
    assert "on the CPU" in "".join(
        path.read_text() for path in clone.folder.glob("runs/logs/*/*.log")
    )
    said = clone.type("snakemake --cores all").stderr
    assert "errors in 100 held-out words: " in said
    assert [said.count(f"    {row}  ") for row in ("said        ", "heard after ")] == [3, 3]
    assert "Next: open data/processed/report.html in a browser" in said
    assert (clone.folder / "data/processed/report.html").is_file()
    assert "Nothing to be done" in clone.type("snakemake --cores all").stderr


@typed("python -m spark_trainer runs")
def lists_the_run(clone: Clone, line: str) -> None:
    [title, shown] = clone.type(line).stdout.splitlines()
    assert title.split()[:3] == ["run", "started", "state"]
    assert shown.startswith(clone.trained().folder.name)
    assert "finished" in shown
    assert f" {DEMO['train']['max_steps']} " in shown


@typed(
    "snakemake report",
    "snakemake --cores 8 report",
    "python -m spark_trainer report",
)
def shows_every_video(clone: Clone, line: str) -> None:
    page = clone.folder / "data/processed/report.html"
    clone.type(line)
    shown = Page(page)
    assert set(shown.data("videos")["id"]) == {one["id"] for one in clone.manifest()}
    assert shown.data("glance")["rejected"][0][0] == "broken.mp4"
    (run,) = shown.data("runs")["runs"]
    assert run["name"] == clone.trained().folder.name
    page.unlink()


@typed("snakemake --report steps.html", "snakemake report --report steps.html")
def tells_how_results_were_made(clone: Clone, line: str) -> None:
    clone.type("snakemake report")
    done = clone.type(line)
    assert "Report created" in done.stderr
    (clone.folder / "steps.html").unlink()


@typed("snakemake train --configfile config/examples/blip_small.yaml")
def learns_captions_by_heart(clone: Clone, line: str) -> None:
    """From random weights, as its configuration says."""
    clone.type(line)
    (folder,) = clone.folder.glob("runs/blip_small/default-*/")
    summary = json.loads((folder / "trained.json").read_text())
    assert summary["steps"] == PICTURES["train"]["max_steps"]
    assert summary["last_loss"] < summary["first_loss"]
    assert {one["meta"]["captioner"] for one in clone.manifest("data/blip_small")} == {"sidecar"}


@typed("nano config/config.yaml")
def has_other_videos(clone: Clone, line: str) -> None:
    configure(clone)
    clone.type("snakemake manifest")
    assert len(clone.manifest()) == VIDEOS


@typed("python -m spark_trainer validate")
def finds_nothing_missing(clone: Clone, line: str) -> None:
    done = clone.type(line)
    assert "manifest" in done.stdout + done.stderr


@typed("python -m spark_trainer validate --manifest mine.jsonl")
def names_a_line_that_is_none(clone: Clone, line: str) -> None:
    shutil.copy(clone.folder / "data/processed/manifest_v1.jsonl", clone.folder / "mine.jsonl")
    lines = (clone.folder / "mine.jsonl").read_text().splitlines()
    wrong = json.loads(lines[2])
    wrong["meta"]["caption"] = ["a dog", "a cat"]
    lines[2] = json.dumps(wrong)
    (clone.folder / "mine.jsonl").write_text("\n".join(lines) + "\n")
    done = clone.type(line, status=1)
    said = 'mine.jsonl:3: meta.caption: expected a text or null (got ["a dog", "a cat"])'
    assert said in done.stdout + done.stderr


@typed("python -m spark_trainer gpus")
def finds_no_gpu(clone: Clone, line: str) -> None:
    assert "no GPU here" in clone.type(line).stderr


@typed("python -m spark_trainer memory")
def tells_what_it_takes(clone: Clone, line: str) -> None:
    first, _, configured, *_ = clone.type(line).stdout.splitlines()
    assert first.startswith("default: GiB on each of ")
    assert configured.startswith("as configured ")


@typed("python -m spark_trainer index")
def counts_the_videos(clone: Clone, line: str) -> None:
    assert f"{VIDEOS + 1} videos" in clone.type(line).stderr


@typed("snakemake data/processed/ab/<sha256>/caption.json")
def makes_one_record_again(clone: Clone, line: str) -> None:
    folder = one_of(clone, "dog.mp4")
    path = clone.folder / "data/processed" / folder / "caption.json"
    before = path.read_bytes()
    path.unlink()
    clone.type(line.replace("ab/<sha256>", folder))
    assert path.read_bytes() == before


@typed("snakemake data/processed/ab/<sha256>/frames")
def makes_its_frames_again(clone: Clone, line: str) -> None:
    folder = one_of(clone, "dog.mp4")
    frames = clone.folder / "data/processed" / folder / "frames"
    before = {path.name: path.read_bytes() for path in frames.glob("*.jpg")}
    shutil.rmtree(frames)
    clone.type(line.replace("ab/<sha256>", folder))
    assert {path.name: path.read_bytes() for path in frames.glob("*.jpg")} == before


@typed("snakemake data/processed/ab/<sha256>/caption.json --dag | dot -Tsvg")
def draws_its_own_graph(clone: Clone, line: str) -> None:
    line = line.replace("ab/<sha256>", one_of(clone, "dog.mp4"))
    drawn = clone.type(line if shutil.which("dot") else line.partition("|")[0]).stdout
    assert "select" in drawn
    assert "manifest_join" not in drawn


@typed("snakemake --unlock")
def frees_the_folder(clone: Clone, line: str) -> None:
    before = clone.manifest()
    clone.type(line)
    clone.type("snakemake manifest")  # writes the markers of what was made video by video
    assert clone.manifest() == before


@typed("snakemake manifest --config 'index={rehash: true}'")
def sees_an_edit_that_keeps_size_and_time(clone: Clone, line: str) -> None:
    path, old = clone.folder / "config/demo/clips/dog.mp4", one_of(clone, "dog.mp4")
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    has_nothing_to_do(clone, "snakemake manifest")
    clone.type(line)
    assert one_of(clone, "dog.mp4") != old
    path.write_bytes(content)
    clone.type("snakemake manifest")
    assert one_of(clone, "dog.mp4") == old


@typed("snakemake manifest --config frame_rate=2")
def takes_twice_the_frames(clone: Clone, line: str) -> None:
    before = {one["id"]: len(one["meta"]["frame_times"]) for one in clone.manifest()}
    clone.type(line)
    for one in clone.manifest():
        assert abs(len(one["meta"]["frame_times"]) - 2 * before[one["id"]]) <= 1


@typed("snakemake manifest --configfile mine.yaml")
def is_not_laid_over_the_demo(clone: Clone, line: str) -> None:
    mine = {"video_dir": "config/demo/clips", "output_dir": "mine"}
    (clone.folder / "mine.yaml").write_text(yaml.safe_dump(mine | OFF))
    clone.type(line)
    assert len(clone.manifest("mine")) == VIDEOS
    assert all(one["meta"]["caption"] is None for one in clone.manifest("mine"))


@typed("snakemake manifest --config 'index={allow_empty: true}'")
def takes_an_emptied_folder_for_what_it_is(clone: Clone, line: str) -> None:
    configure(clone, video_dir="few", output_dir="emptied", **OFF)
    (clone.folder / "few").mkdir()
    shutil.copy(clone.folder / "config/demo/clips/dog.mp4", clone.folder / "few")
    clone.type("snakemake manifest")
    (clone.folder / "few/dog.mp4").unlink()
    assert "few" in clone.type("snakemake manifest", status=1).stderr
    assert len(clone.manifest("emptied")) == 1
    clone.type(line)
    assert clone.manifest("emptied") == []
    configure(clone)


@typed("ffmpeg -i a.ts -c copy a.mkv")
def gives_a_stream_its_index(clone: Clone, line: str) -> None:
    frames = ffmpeg.read(ROOT / "config/demo/clips/dog.mp4")
    ffmpeg.write(frames.output(str(clone.folder / "a.ts"), t=1))
    (clone.folder / "programs").mkdir()
    (clone.folder / "programs/ffmpeg").symlink_to(ffmpeg.binary())
    clone.type(f"PATH=$PWD/programs:$PATH {line}")
    assert (clone.folder / "a.mkv").stat().st_size > 1000


@typed("snakemake <output_dir>/<folder>/pose.json")
def finds_a_person(clone: Clone, line: str) -> None:
    (clone.folder / "speaking").mkdir()
    shutil.copy(SPEAKER, clone.folder / "speaking")
    configure(clone, video_dir="speaking", output_dir="spoken", pose={"enabled": True}, **OFF)
    clone.type("snakemake manifest")
    [one] = clone.manifest("spoken")
    folder = f"spoken/{one['frames_dir'].removesuffix('/frames')}"
    before = clone.json(f"{folder}/pose.json")
    (clone.folder / folder / "pose.json").unlink()
    clone.type(line.replace("<output_dir>/<folder>", folder))
    timing = dict.fromkeys(("made", "seconds", "checksum"))
    assert clone.json(f"{folder}/pose.json") | timing == before | timing
    assert list((clone.folder / folder / "pose").glob("*.mp4"))
    configure(clone)


@typed("python -m spark_trainer runs diff slow fast")
def tells_two_runs_apart(clone: Clone, line: str) -> None:
    short = {"max_steps": 2, "eval_steps": 2, "runs": {"slow": {"learning_rate": 1e-5}, "fast": {}}}
    configure(clone, train=SMALL | short)
    clone.type("snakemake train --resources gpu=8")
    said = clone.type(line).stdout
    assert re.search(r"learning_rate +1e-05 → 0\.001", said)
    configure(clone)


@typed(
    "python -m spark_trainer preprocess --video-dir /data/interviews --output-dir /data/out"
    " --extract-frames --frame-rate 2 --extract-audio --transcribe --whisper-model base"
    " --generate-captions --captioner-backend blip"
)
def works_without_an_edited_file(clone: Clone, line: str) -> None:
    """With stand-ins for two models of the hub; the demo's file is what the flags are laid over."""
    configure(clone, caption={"device": "auto", "max_new_tokens": 8})
    clone.stand_in(Run().model_name, tiny.blip)
    clone.stand_in("Systran/faster-whisper-base", whisper_base)
    (clone.folder / "data/interviews").mkdir(parents=True)
    shutil.copy(ROOT / "config/demo/clips/globe-reading.mp4", clone.folder / "data/interviews")
    clone.type(line.replace(" /data/", f" {clone.folder}/data/"))
    [one] = clone.manifest("data/out")
    assert len(one["meta"]["frame_times"]) in (14, 15)  # of 7.1 s
    assert one["meta"]["captioner"] == "blip"
    assert one["meta"]["transcriber_model"] == "base"
    assert len(one["meta"]["transcript"].split()) > 5
    configure(clone)


@typed(
    "python -m spark_trainer lineage slow-1a2b3c4d",
    "python -m spark_trainer lineage dog.mp4",
)
def tells_where_something_comes_from(clone: Clone, line: str) -> None:
    said = clone.type(line.replace("slow-1a2b3c4d", "slow")).stdout
    assert "validation" in said
    assert "dog.mp4" in said or "imagenet-tags" in said


@typed(
    "python -m spark_trainer manifest diff old.jsonl",
    "python -m spark_trainer manifest diff slow fast",
)
def tells_two_manifests_apart(clone: Clone, line: str) -> None:
    shutil.copy(clone.folder / "data/processed/manifest_v1.jsonl", clone.folder / "old.jsonl")
    assert f"{VIDEOS} videos are the same" in clone.type(line).stdout


@typed(
    "python -m spark_trainer manifest list",
    "python -m spark_trainer manifest diff 3f9a1c slow",
)
def knows_past_manifests(clone: Clone, line: str) -> None:
    listed = clone.type("python -m spark_trainer manifest list").stdout.splitlines()
    [run] = clone.folder.glob("runs/slow-*")
    learnt = next(one for one in listed if run.name in one)
    assert f"{VIDEOS} videos" in learnt
    told = clone.type(line.replace("3f9a1c", learnt[:6])).stdout
    assert ("are the same" in told) == ("diff" in line)


@typed("python -m spark_trainer gc --dry-run", "python -m spark_trainer gc")
def removes_what_is_out_of_use(clone: Clone, line: str) -> None:
    """A video that was overwritten and put back left results of what it was meanwhile."""
    clone.type(line if "--dry-run" in line else f"{line} --yes")
    assert len(clone.manifest()) == VIDEOS
    assert clone.trained("slow").folder.is_dir()


@typed("python -m spark_trainer validate --deep")
def reads_the_store_whole(clone: Clone, line: str) -> None:
    assert f"{VIDEOS + 1} videos read whole: 0 wrong" in clone.type(line).stderr


@typed(
    "python -m spark_trainer forget dog.mp4 --dry-run",
    'python -m spark_trainer forget dog.mp4 --reason "consent withdrawn"',
)
def forgets_a_video(clone: Clone, line: str) -> None:
    """Where nobody can be asked, `--yes` is needed."""
    clone.type(line if "--dry-run" in line else f"{line} --yes")
    left = len(clone.manifest())
    assert left == VIDEOS - ("--dry-run" not in line)


BENCHMARK = re.compile(r"uv run (--group bench )?python benchmarks/\w+\.py")  # an hour in all


def test_every_command_of_the_pages_is_known() -> None:
    examples = {line for line in commands() if any(f"config/{path}" in line for path in SHOWN)}
    apart = {line for line in commands() if BENCHMARK.fullmatch(line)}
    known = {*DAY, *ELSEWHERE, *NOBODY, *examples, *apart}
    assert known == set(commands())


@pytest.mark.parametrize("line", ELSEWHERE)
def test_who_runs_the_others_does(line: str) -> None:
    path, words = ELSEWHERE[line]
    assert words in (ROOT / path).read_text(encoding="utf-8")


@no_gpu
@pytest.mark.long
def test_the_day(tmp_path: Path) -> None:
    clone = Clone.of(tmp_path)
    for line, act in DAY.items():
        act(clone, line)
