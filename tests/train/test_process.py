"""A training process ends by itself, whatever it ends with."""

import os
import subprocess
import sys
from typing import Any

import pytest

from .conftest import write_run

CPU = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.long
def test_a_failure_leaves_no_worker_to_wait_for(make: Any) -> None:
    folder = write_run(make(learning_rate=1e30, eval_steps=100, num_workers=1))
    command = [sys.executable, "-m", "spark_trainer.train.process", str(folder)]
    ended = subprocess.run(
        command, env=os.environ | CPU, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "WARNING] [real_accelerator" not in ended.stderr
    assert "gemm_4bit" not in ended.stderr
    assert "spark_trainer: the loss was no number for 3 steps" in ended.stderr
