"""What is corrected by hand reaches the next build, which re-does exactly what reads it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from spark_trainer.system import holder

from .conftest import REPO, Clips, Workspace, three, without_training
from .test_plan import plan, processed
from .test_store import jobs, start, until

JOIN = {"manifest_part": 1, "manifest_join": 1, "manifest": 1}


def correct(workspace: Workspace, name: str, *words: str) -> None:
    done = workspace.call("correct", f"{name}.mp4", "--author", "Ada", *words)
    assert done.returncode == 0, done.stderr


def meta(workspace: Workspace, name: str) -> dict[str, Any]:
    return dict(workspace.manifest()[workspace.place(name)]["meta"])


@contextmanager
def served(workspace: Workspace) -> Iterator[str]:
    """The address of the page, served by the command."""
    workspace.command()
    words = ["-m", "spark_trainer", "report", "--serve", "--config", "config.yaml"]
    with subprocess.Popen(
        [sys.executable, *words, "--author", "Bob"],
        cwd=workspace.folder,
        env=workspace.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def post(address: str, **said: Any) -> dict[str, Any]:
    kind = {"Content-Type": "application/json"}
    request = Request(f"{address}corrections", json.dumps(said).encode(), kind)
    with urlopen(request, timeout=20) as answer:
        return dict(json.loads(answer.read()))


def test_a_remark_a_transcript_and_an_exclusion(built: Workspace) -> None:
    """No step runs for them; taken back, all is as before."""
    before = built.digests("jsonl")
    srt = "1\n00:00:00,500 --> 00:00:01,000\nwuff\n"
    correct(built, "dog", "--transcript", srt, "--flag", "a dog?", "--caption", "a dog")
    correct(built, "cup", "--exclude", "no consent")
    assert built.build() == JOIN
    said = meta(built, "dog")
    assert (said["caption"], said["captioner"], said["flag"]) == ("a dog", "hand", "a dog?")
    assert (said["transcript"], said["transcriber"]) == ("wuff", "hand")
    assert said["segments"] == [{"start": 0.5, "end": 1.0, "text": "wuff", "words": None}]
    assert {one["author"] for one in said["corrected"].values()} == {"Ada"}
    [line] = map(json.loads, (built.output / "rejected_v1.jsonl").read_text().splitlines())
    assert (line["step"], line["reason"]) == ("hand", "no consent")
    assert line["source_path"] == "cup.mp4"
    assert len(built.manifest()) == 2
    assert built.build() == {}
    for name in ("dog", "cup"):
        correct(built, name, "--clear")
    assert built.build() == JOIN
    assert built.digests("jsonl") == before


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory, clips: Clips) -> Workspace:
    """Three captioned clips, two of them in one shard."""
    workspace = three(tmp_path_factory.mktemp("captioned"), clips)
    workspace.configure("caption", enabled=True, captioner_backend="imagenet-tags", threshold=0.0)
    workspace.build()
    return workspace


@pytest.mark.long
def test_an_edit_in_the_page_is_one_videos_select(captioned: Workspace, tmp_path: Path) -> None:
    workspace = captioned.copy(tmp_path)
    workspace.build()
    video, before = workspace.place("dog")[3:], workspace.digests()
    with served(workspace) as address:
        assert post(address, hash=video, caption="a dog in the snow")["pending"]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    told = workspace.call("plan", "manifest").stdout
    line = f"caption of dog.mp4 corrected by hand (Bob, {today}) → select of 1 video\n"
    assert told.startswith(f"{line}then the manifest\n"), told
    said, since = plan(workspace, "manifest"), time.time()
    [reason] = said["steps"]["select"]
    assert (reason["why"]["kind"], reason["videos"]) == ("corrected", [video])
    assert said["corrected"] == {video: {"caption": f"Bob, {today}"}}
    assert workspace.build() == said["jobs"] == {"select_shard": 1} | JOIN
    assert processed(workspace, since) == {"select": 1}
    changed = workspace.digests()
    record = f"{workspace.place('dog')}/caption.json"
    others = {record, f"corrections/{video}.json", "manifest_v1.jsonl"}
    assert {path for path in changed if changed[path] != before.get(path)} == others
    assert json.loads((workspace.output / record).read_text())["author"] == "Bob"
    assert meta(workspace, "dog")["caption"] == "a dog in the snow"
    assert workspace.build() == {}

    lineage = " ".join(workspace.call("lineage", "clips/dog.mp4").stdout.split())
    assert f"corrected caption by Bob on {today}" in lineage
    deep = workspace.call("validate", "--deep", "--json")
    assert '"kind"' not in deep.stdout
    unreached = workspace.call("gc", "--dry-run").stdout
    assert "past manifests" in unreached
    assert "earlier states" not in unreached

    correct(workspace, "dog", "--caption", "a cat")
    workspace.build(f"out/{record}")  # alone, with the marker of its shard beside it
    assert json.loads((workspace.output / record).read_text())["caption"] == "a cat"
    correct(workspace, "dog", "--clear")
    assert workspace.build() == {"select_shard": 1} | JOIN
    assert workspace.digests() == before


@pytest.mark.long
def test_every_copy_goes_with_a_forgotten_video(built: Workspace) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        gone = f"{holder.machine()}-{process.pid}-{holder.started(process.pid)}"
        process.kill()
    correct(built, "dog", "--caption", "a dog in the snow")
    built.build()
    correct(built, "dog", "--flag", "another look")
    [kept] = (built.output / "corrections").iterdir()
    left = kept.with_name(f".{kept.name}.{gone}.0a1b2c3d.tmp")  # by a call that was killed
    left.write_bytes(kept.read_bytes())
    done = built.call("forget", "clips/dog.mp4", "--yes")
    assert done.returncode == 0, done.stderr
    files = [path for path in built.output.rglob("*") if path.is_file()]
    for said in (b"a dog in the snow", b"another look", b"Ada"):
        assert not [path for path in files if said in path.read_bytes()]
    assert built.call("correct", "clips/dog.mp4", "--flag", "again").returncode == 1
    assert built.place("dog")[3:] not in "".join(built.manifest())


@pytest.mark.long
def test_a_damaged_correction_is_found(built: Workspace) -> None:
    built.build()
    folder = built.output / "corrections"
    folder.mkdir()
    damaged, stray = folder / f"{built.place('dog')[3:]}.json", folder / f"{'0' * 64}.json"
    damaged.write_text("{")
    stray.write_text(json.dumps({"video": "0" * 64}))
    lines = built.call("validate", "--deep", "--json").stdout.splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    kinds = {one["path"]: one["kind"] for one in found}
    assert kinds == {f"out/corrections/{path.name}": "damaged" for path in (damaged, stray)}
    outcome = built.snakemake("manifest")
    assert outcome.status != 0
    assert f"out/corrections/{damaged.name}: no JSON" in outcome.stderr
    damaged.unlink()
    outcome = built.snakemake("manifest")
    assert (outcome.status, outcome.jobs) == (0, {})
    assert "corrections of no video here: 1 (000000000000)" in outcome.stderr


@pytest.mark.long
def test_an_edit_during_a_build_is_taken_by_the_next(fresh: Workspace) -> None:
    build = start(fresh, "manifest")
    [job, *_] = until(lambda: jobs(fresh))
    os.kill(job, signal.SIGSTOP)
    correct(fresh, "dog", "--flag", "look again")
    os.kill(job, signal.SIGCONT)
    told = build.end()
    assert build.process.returncode == 0, told
    assert "flag" not in meta(fresh, "dog")
    assert fresh.build() == JOIN
    assert meta(fresh, "dog")["flag"] == "look again"


@pytest.mark.long
def test_a_run_trains_on_what_was_corrected(built: Workspace, tmp_path: Path) -> None:
    """Its data is other data; a remark changes nothing."""
    workspace = built.copy(tmp_path / "here", without_training(tmp_path / "tree"))
    workspace.configure(
        "train",
        model_name=str(REPO / "config/demo/blip-small"),
        from_scratch=True,
        text={"answer": "{source_path}"},
        runs={"slow": {}},
        allow_cpu=True,
        min_gpus=0,
        gpus=0,
    )
    workspace.build("train")
    correct(workspace, "dog", "--flag", "look again")
    assert "its job only looks" in workspace.call("plan").stdout
    correct(workspace, "dog", "--caption", "a dog")
    assert "run slow: its data changed" in workspace.call("plan").stdout
    workspace.build("train")
    runs = sorted((workspace.folder / "runs").glob("slow-*"))
    assert len(runs) == 2
    told = [" ".join(workspace.call("lineage", run.name).stdout.split()) for run in runs]
    assert sorted("corrected 1 caption by Ada" in one for one in told) == [False, True]
