"""What users type besides a build: the graph, a cluster's dry run, a configuration gone wrong."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import REPO, Outcome, Workspace


@pytest.fixture(scope="module", params=["before the build", "after the build"])
def graph(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    first: tuple[Workspace, Outcome],
) -> str:
    """What `snakemake manifest --dag` writes to stdout."""
    workspace = first[0].copy(tmp_path_factory.mktemp("graph"))
    if request.param == "before the build":
        shutil.rmtree(workspace.output)
    outcome = workspace.snakemake("manifest", "--dag")
    assert outcome.status == 0, outcome.stderr
    return outcome.stdout


def test_dag_alone_on_stdout(graph: str) -> None:
    assert graph.startswith("digraph snakemake_dag {")
    assert graph.rstrip().endswith("}")
    assert graph.count("manifest_join") == 1


def test_dag_renders(graph: str) -> None:
    dot = shutil.which("dot")
    if dot is None:
        pytest.skip("no `dot` here: install graphviz to render the graph")
    done = subprocess.run([dot, "-Tsvg"], input=graph, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "manifest_join" in done.stdout


def test_slurm_dry_run(tmp_path: Path) -> None:
    """The cluster's profile is found from the repository's root, free of this machine's limits."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--profile", "slurm", "-n"),
            *("--config", f"output_dir={tmp_path / 'out'}"),
        ],
        cwd=REPO,
        env=Workspace(tmp_path).environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    training = (done.stdout + done.stderr).partition("rule train_run:")[2].partition("\n\n")[0]
    assert "threads: 64" in training  # 8 for each GPU
    assert "gpu=8" in training
    assert "mem_mb=64000" in training


def test_jobs_read_what_is_set_now(fresh: Workspace) -> None:
    """A key that decides no result changes what is in the settings, and not their name."""
    seen = []
    for device in ("cuda", "cpu"):
        fresh.configure("caption", enabled=True, captioner_backend="imagenet-tags", device=device)
        assert fresh.snakemake("manifest", "--dry-run").status == 0
        [path] = fresh.output.glob(".spark/settings/caption/*.json")
        seen.append((path.name, json.loads(path.read_text())["settings"]["device"]))
    assert [device for _, device in seen] == ["cuda", "cpu"]
    assert seen[0][0] == seen[1][0]


def test_slurm_profile_knows_every_job() -> None:
    """Each has its time, and more memory at each attempt."""
    profile = yaml.safe_load((REPO / "profiles/slurm/config.yaml").read_text(encoding="utf-8"))
    default, rules = profile["default-resources"], profile["set-resources"]
    text = "".join(path.read_text(encoding="utf-8") for path in (REPO / "rules").glob("*.smk"))
    names = re.findall(r"^rule (\w+_shard|manifest_\w+|train_run):$", text, re.MULTILINE)
    assert set(names) <= set(rules)
    for asked in [default, *rules.values()]:
        assert re.fullmatch(r"\d+ \* attempt", asked["mem_mb"])
        assert asked["runtime"] > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": {"frame_rat": 2}}, "frames.frame_rat: unknown key; did you mean frame_rate?"),
        ({"audio": {"channels": 5}}, "audio.channels: expected 1 or 2 (got 5)"),
        ({"video_dir": "nowhere"}, "video_dir: no such folder: nowhere"),
    ],
)
def test_wrong_configuration(fresh: Workspace, wrong: dict[str, Any], message: str) -> None:
    """A wrong key stops everything before any work; Snakemake's own log is all that is left."""
    fresh.config |= wrong
    outcome = fresh.snakemake("manifest")
    assert outcome.status != 0
    assert message in outcome.stderr
    left = {path.name for path in fresh.folder.iterdir()}
    assert left - {".snakemake"} == {"clips", "config.yaml"}
