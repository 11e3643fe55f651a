"""`python -m spark_trainer gpus` while real processes hold leases."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .test_driver import CUT, ONE, ROWS, TWO, WHOLE, A, B

Install = Callable[[str, str], None]


def gpus(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "spark_trainer", "gpus", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_without_a_gpu(flags: list[str]) -> None:
    done = gpus(*flags)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no GPU here\n")


def test_table(install: Install, start: Callable[..., Any]) -> None:
    install(WHOLE, ROWS)
    first = start(count=2, fraction=0.5, what="caption b01")
    assert first.devices() == "0,1"
    second = start({"CUDA_VISIBLE_DEVICES": A}, fraction=0.25, what="bad\x1b[31m")
    assert second.devices() == A
    done = gpus()
    assert done.returncode == 0, done.stderr
    lines = [re.sub(r" +", " ", line) for line in done.stdout.splitlines()]
    assert [re.sub(r"\d+ s\b", "N s", line) for line in lines] == [
        "gpu name memory busy held pid for what",
        f"0 NVIDIA A100-SXM4-40GB 1536 of 40960 MiB 12 % 0.5 {first.pid} N s caption b01",
        f' 0.25 {second.pid} N s "bad\\u001b[31m"',
        f"1 NVIDIA A100-SXM4-40GB 3 of 40960 MiB - 0.5 {first.pid} N s caption b01",
    ]
    second.end()
    first.end()
    assert [line.split()[-1] for line in gpus().stdout.splitlines()] == ["what", "free", "free"]


def test_json(install: Install, start: Callable[..., Any]) -> None:
    install(WHOLE, ROWS)
    holder = start(fraction=0.5, what="caption b01")
    assert holder.devices() == "0"
    first, second = map(json.loads, gpus("--json").stdout.splitlines())
    (lease,) = first.pop("leases")
    assert first == {
        "device": "0",
        "name": "NVIDIA A100-SXM4-40GB",
        "uuid": A,
        "memory_mib": 40960,
        "used_mib": 1536,
        "utilisation": 12,
    }
    assert lease["fraction"] == 0.5
    assert (lease["pid"], lease["what"], lease["device"]) == (holder.pid, "caption b01", A)
    assert (second["utilisation"], second["leases"]) == (None, [])
    holder.end()
    assert "caption" not in gpus("--json").stdout


def test_mig_and_hidden_devices(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(CUT, ROWS)
    found = [json.loads(line) for line in gpus("--json").stdout.splitlines()]
    assert [(row["device"], row["name"]) for row in found] == [
        (ONE, "NVIDIA A100-SXM4-40GB MIG 3g.20gb"),
        (TWO, "NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb"),
        ("1", "NVIDIA A100-SXM4-40GB"),
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", B)
    (row,) = map(json.loads, gpus("--json").stdout.splitlines())
    assert (row["device"], row["uuid"], row["used_mib"]) == (B, B, 3)
    assert not (tmp_path / "leases").exists()
