"""Workspaces whose jobs go to the test cluster, and what Slurm says about those jobs."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.workflow import conftest as workflow
from tests.workflow.conftest import REPO, Clips, Outcome, Workspace

from .cluster import CLUSTER, NAME_VARIABLE

COMMAND = "tests/slurm/cluster.py --install uv run pytest -m slurm"
RULES = ("frames_shard", "manifest_part", "manifest_join")  # of a build of frames alone
CHECK_SECONDS = 8  # a little longer than a short job


@pytest.fixture(autouse=True, scope="session")
def cluster() -> None:
    """Skip without the test cluster; with it, its silence is a failure."""
    if NAME_VARIABLE not in os.environ:
        pytest.skip(f"no test cluster; as root: {COMMAND}")
    assert f" {CLUSTER}\n" in ask("scontrol", "show", "config")


def keeps_accounts() -> None:
    """Skip on a cluster whose `sacct` has nothing to say."""
    if "accounting_storage/slurmdbd" not in ask("scontrol", "show", "config"):
        command = COMMAND.replace("--install", "--install --accounts")
        pytest.skip(f"no accounts here; as root: {command}")


def ask(*command: str) -> str:
    """What a command answers."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class Job:
    """A job as `scontrol` shows it."""

    facts: dict[str, str]

    @property
    def id(self) -> str:
        return self.facts["JobId"]

    @property
    def rule(self) -> str:
        """The rule, out of `rule_caption_shard_wildcards_…`."""
        return self.facts["Comment"].removeprefix("rule_").partition("_wildcards_")[0]

    @property
    def state(self) -> str:
        return self.facts["JobState"]

    @property
    def asked(self) -> dict[str, str]:
        """Cores, memory and nodes."""
        return dict(item.split("=") for item in self.facts["TRES"].split(","))


@dataclass
class Submitting(Workspace):
    """A workspace with a profile of its own: the shipped one, edited as a user would."""

    patience: tuple[str, ...] = ()  # the profile's

    @property
    def profile(self) -> Path:
        return self.folder / "slurm"

    def edit(self, file: str, pattern: str, new: str) -> None:
        """Edit a file of the profile."""
        path = self.profile / file
        text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert count, pattern
        path.write_text(text, encoding="utf-8")

    def __post_init__(self) -> None:
        shutil.copytree(REPO / "profiles/slurm", self.profile, dirs_exist_ok=True)
        self.edit("cluster.yaml", r"^check_seconds: \d+", f"check_seconds: {CHECK_SECONDS}")

    def command(self, *arguments: str) -> list[str]:
        return [*super().command(*arguments), "--profile", str(self.profile)]

    def start(self, *targets: str) -> "subprocess.Popen[str]":
        """Start a build and return; it has a process group of its own."""
        return subprocess.Popen(
            self.command(*targets),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def submitted(self, rule: str = "") -> list[Job]:
        """The jobs that this workspace has sent to Slurm, oldest first; of one rule or of all."""
        found = []
        for line in ask("scontrol", "show", "job", "--oneliner").splitlines():
            job = Job(dict(word.split("=", 1) for word in line.split() if "=" in word))
            if job.facts.get("WorkDir") == str(self.folder) and rule in ("", job.rule):
                found.append(job)
        return sorted(found, key=lambda job: int(job.id))

    def logs(self) -> str:
        """Everything that its calls and their jobs have logged."""
        found = sorted(self.folder.glob("runs/logs/*/spark_trainer.log"))
        return "".join(path.read_text(encoding="utf-8") for path in found)


def until(find: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for something that is not empty; returns it."""
    end = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.2)
    return found


def submitting(workspace: Workspace, folder: Path, tree: Path = REPO) -> Submitting:
    """A copy of a workspace whose jobs go to the cluster."""
    return Submitting(folder, tree, workspace.copy(folder).config)


@pytest.fixture(scope="session")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return workflow.cut(tmp_path_factory.mktemp("cuts"))


@pytest.fixture(scope="session")
def local(
    tmp_path_factory: pytest.TempPathFactory, cuts: Clips
) -> tuple[Workspace, dict[str, str]]:
    """Three clips in two shards as this machine alone builds them, and the bytes of it."""
    workspace = _three(tmp_path_factory.mktemp("local"), cuts)
    workspace.build()
    return workspace, workspace.digests()


@pytest.fixture
def fresh(tmp_path: Path, cuts: Clips) -> Submitting:
    """The same three clips, nothing built."""
    return submitting(_three(tmp_path, cuts), tmp_path / "here")


def _three(folder: Path, cuts: Clips) -> Workspace:
    """Their frames alone: a job takes seconds to begin and to be noticed, whatever it does."""
    workspace = workflow.three(folder, cuts)
    workspace.configure("audio", enabled=False)
    return workspace


def outcome(workspace: Submitting, *targets: str) -> Outcome:
    """A build through the cluster that has to succeed."""
    done = workspace.snakemake(*targets)
    assert done.status == 0, done.stderr
    return done
