"""A start that others hold up ends by itself, and names what holds it up."""

import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from spark_trainer.errors import MachineError
from spark_trainer.train import setup
from spark_trainer.train.strategies import deepspeed_build
from spark_trainer.train.topology import Topology
from tests.train.conftest import fresh, write_run


@pytest.mark.long
def test_a_builder_that_never_ends_is_waited_for_so_long(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has begun to compile what DeepSpeed needs, and hangs."""
    config = tmp_path / "zero.json"
    config.write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    folder = write_run(make(use_deepspeed=True, deepspeed_config=str(config)))
    for name, value in Topology(1, 1, "cpu").environments()[0].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.setattr(deepspeed_build, "LIMIT_SECONDS", 1.0)
    lock = tmp_path / "extensions" / "deepspeed_shm_comm" / "lock"
    lock.parent.mkdir(parents=True)
    try:
        with FileLock(lock), pytest.raises(MachineError, match=f"^{lock}: .*remove {lock.parent},"):
            setup.prepare(folder)
    finally:
        fresh()
