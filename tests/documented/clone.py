"""A fresh clone where a user types what a page says, and what a run left there."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from spark_trainer.config.dataset import Split
from spark_trainer.data.dataset import of_entry

from .pages import ROOT

TREE = ("Snakefile", "rules", "envs", "profiles", "slurm", "config")
REVISION = "0" * 40


@dataclass(frozen=True)
class Clone:
    """The workflow's files in a folder, where a cache of the hub is at hand and no network."""

    folder: Path

    @classmethod
    def of(cls, folder: Path) -> "Clone":
        """Copy the workflow's files into a folder."""
        for name in TREE:
            source = ROOT / name
            if source.is_symlink():
                (folder / name).symlink_to(os.readlink(source))
            else:
                (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        return cls(folder)

    def stand_in(self, name: str, build: Callable[[Path], Path]) -> Path:
        """Put a tiny checkpoint where a hub id, or a local folder, is looked for."""
        if name.startswith("models/"):
            return build(self.folder / name)
        home = self.folder / f"hub/models--{name.replace('/', '--')}"
        if not (home / "refs").is_dir():
            (home / "refs").mkdir(parents=True)
            (home / "refs/main").write_text(REVISION)
            build(home / "snapshots" / REVISION)
        return home / "snapshots" / REVISION

    def type(self, line: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a line of a page in a shell; it must end with this status."""
        # A table is as wide as the terminal, of which COLUMNS tells; here is none.
        unset = ("SPARK_TRAINER", "COLUMNS")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
        hub = {"HF_HUB_CACHE": str(self.folder / "hub"), "HF_HUB_OFFLINE": "1"}
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.folder,
            env=kept | hub | {"PYTHONPATH": str(ROOT), "PATH": programs},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, f"{line}\n{done.stdout[-1500:]}{done.stderr[-3000:]}"
        return done

    def json(self, path: str) -> Any:
        """Read one of the JSON files that the pages name."""
        return json.loads((self.folder / path).read_text(encoding="utf-8"))

    def manifest(self, folder: str = "data/processed") -> list[dict[str, Any]]:
        """Read the lines of a manifest."""
        text = (self.folder / folder / "manifest_v1.jsonl").read_text(encoding="utf-8")
        return list(map(json.loads, text.splitlines()))

    def trained(self, name: str = "default", folder: str = "runs") -> "Trained":
        """Find what the only run of a name left."""
        (found,) = self.folder.glob(f"{folder}/{name}-*/")
        return Trained(found)


@dataclass(frozen=True)
class Trained:
    """A run folder, read without code of ours."""

    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "run.json").read_text())["settings"])

    @property
    def updates(self) -> list[dict[str, float]]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if "loss" in line]

    @property
    def videos(self) -> list[dict[str, Any]]:
        """The manifest's lines of the videos that it learnt from."""
        lines = map(json.loads, (self.folder / "manifest.jsonl").read_text().splitlines())
        split = Split(**self.settings["split"])
        return [line for line in lines if of_entry(line, split) == "train"]

    def moved(self, start: Path, part: str = "") -> dict[str, float]:
        """Tell how far each weight of a part of `final/` went from a checkpoint's.

        One that is that checkpoint's in bf16 did not move: what is frozen is held so.
        """
        ours, theirs = weights(self.folder / "final" / part), weights(start / part)
        assert ours.keys() == theirs.keys()
        return {
            key: min(
                float((value - begun).abs().max())
                for begun in (theirs[key], theirs[key].bfloat16().float())
            )
            for key, value in ours.items()
        }

    def learnt(self, start: Path, names: str, part: str = "") -> None:
        """Show that the weights of these names learnt, a little, and no others.

        None does in the first update of a warm-up, whose rate is 0.
        """
        moved = self.moved(start, part)
        due = {key for key in moved if re.match(names, key)}
        did = {key for key, distance in moved.items() if distance}
        if not any(line["learning_rate"] for line in self.updates):
            due = set()
        assert did <= due, sorted(did - due)[:5]
        assert len(did) >= len(due) / 2, sorted(due - did)[:5]
        assert max(moved.values()) < 0.02  # random weights would be 0.1 away


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a checkpoint."""
    return {
        key: value.float()
        for path in folder.glob("*.safetensors")
        for key, value in load_file(path).items()
    }
