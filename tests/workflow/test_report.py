"""The report is made again when what it reads changed, and never by another target."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from spark_trainer.config import Run
from spark_trainer.runs.folder import RunFolder
from tests.report.page.read import Page

from .conftest import REPO, Clips, Workspace

MADE = {"report_page": 1, "report": 1}


def begin_run(workspace: Workspace, video: str) -> RunFolder:
    """What a run leaves after its first update."""
    run = RunFolder(workspace.folder / "runs/words-0123abcd")
    run.path.mkdir(parents=True)
    settings = Run(max_steps=2).model_dump(mode="json")
    run.run_file.write_text(json.dumps({"settings": settings, "versions": None}))
    run.lineage.write_text(json.dumps({"videos": {video: {}}, "manifest_sha256": "0" * 64}))
    run.metrics.write_text('{"step": 1, "loss": 2.5}\n')
    return run


@pytest.mark.long
def test_made_again_for_a_run_that_went_on_and_for_other_data(
    built: Workspace, clips: Clips
) -> None:
    assert built.build("report") == MADE
    page = built.output / "report.html"
    videos = Page(page).data("videos")["id"]
    assert len(videos) == 3
    assert built.build("report") == {}
    run = begin_run(built, videos[0])
    assert built.build("report") == MADE
    assert Page(page).data("runs")["runs"][0]["steps"] == 1
    with open(run.metrics, "a", encoding="utf-8") as metrics:
        metrics.write('{"step": 2, "loss": 1.5}\n')
    assert built.build("report") == MADE
    told = Page(page).data("since")
    assert (told["data"], told["runs"]) == ({}, {run.name: [2, False]})
    built.add("added", clips.content("dog", "11"))
    outcome = built.snakemake("manifest")
    assert not MADE.keys() & outcome.jobs.keys()
    assert f"{page.relative_to(built.folder)} is older than this" in outcome.stderr
    assert built.build("report") == MADE
    assert Page(page).data("since")["data"]["added"][0] == 1


def test_snakemakes_own_report_has_what_is_captioned(built: Workspace, tmp_path: Path) -> None:
    built.build("report")
    told = tmp_path / "steps.html"
    command = built.command("report", "--report", str(told))
    done = subprocess.run(
        command, cwd=built.folder, env=built.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Adding report.html" in done.stderr
    assert "Adding rejected_v1.jsonl" in done.stderr
    assert "Videos that could not be used" in told.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("targets", "trains"),
    [((), True), (("all",), True), (("train", "report"), True), (("report",), False)],
)
def test_the_page_waits_for_the_runs_of_its_call(
    fresh: Workspace, targets: tuple[str, ...], trains: bool
) -> None:
    """A page alone trains nothing."""
    fresh.configure("train", max_steps=1, model_name=str(REPO / "config/demo/blip-small"))
    drawn = fresh.snakemake(*targets, "--dag").stdout
    rules = dict(re.findall(r'(\d+)\[label = "(\w+)', drawn))
    edges = {(rules[a], rules[b]) for a, b in re.findall(r"(\d+) -> (\d+)", drawn)}
    assert ("manifest_join", "report_page") in edges
    assert ("train_run" in rules.values()) == trains
    assert (("train_run", "report_page") in edges) == trains
