"""A finished run, an export, and a hub that takes them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data.files import read_json
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.metrics.objective import HELD_OUT_LOSS
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.summary import Summary
from spark_trainer.train import final
from tests.exports.conftest import VIDEOS, Store
from tests.families import tiny
from tests.store.test_lineage import KEPT, write

from .server import TOKEN, Hub, serving


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("video_dir: videos\noutput_dir: out\n")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server that the hub's client of this process asks."""
    with serving() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that learnt from one video, with weights as `final.write` leaves them."""
    made = write(tmp_path / "runs", "slow-1a2b3c4d", [KEPT], run="slow-1a2b3c4d")
    base = tiny.blip(tmp_path / "blip")
    settings = Run(model_name=str(base))
    family = families.find(str(base))
    summary = Summary(steps=1, device="cpu", objective=HELD_OUT_LOSS, scores={"bleu": 12.5})
    loaded = family.load(str(base), LoadOptions())
    told = read_json(made.lineage)
    summary = final.write(made.final, settings, family, loaded, told, lambda _: summary)
    made.whole_files.write_text("{}")  # as a run that hears has it
    summary.write(made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of videos under whose hostile names nothing breaks."""
    made = Store(tmp_path)
    for name in VIDEOS:
        made.add(name, bytes(5000) if name == b"no ending" else None)
    made.write(VIDEOS)
    return made
