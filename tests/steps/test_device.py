"""Where a step's model runs: on a leased GPU, or on the CPU where the configuration says so."""

import os
from pathlib import Path

import pytest

from spark_trainer.config import ConfigError
from spark_trainer.steps.device import Wanted, asked, device
from spark_trainer.system import gpu


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two made-up devices and a place for their leases."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("SPARK_TRAINER_GPU_LEASES", str(tmp_path))


@pytest.mark.parametrize(
    ("wanted", "fraction", "local", "expected"),
    [
        ("cuda", 1.0, True, 1),
        ("cuda", 0.5, True, 0),  # leases count shares, Snakemake can't
        ("cuda", 0.5, False, 1),  # a cluster has no shares
        ("auto", 1.0, False, 0),
        ("cpu", 1.0, True, 0),
        ("cpu", 1.0, False, 0),
    ],
)
def test_what_a_job_asks_snakemake_for(
    wanted: Wanted, fraction: float, local: bool, expected: int
) -> None:
    assert asked(wanted, fraction, local) == expected


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("wanted", ["cuda", "auto"])
def test_a_granted_gpu_is_leased_and_the_only_one_seen(wanted: Wanted) -> None:
    with device("caption", wanted, 1.0, 1, "work") as place:
        assert place == "cuda"
        (held,) = gpu.holders()
        assert (held.what, held.fraction) == ("work", 1.0)
        assert os.environ["CUDA_VISIBLE_DEVICES"] in ("0", "1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "CUDA_DEVICE_ORDER" not in os.environ
    assert gpu.holders() == []


@pytest.mark.usefixtures("two_gpus")
def test_a_share_needs_no_grant() -> None:
    with device("caption", "cuda", 0.5, 0, "work") as place:
        assert place == "cuda"
        assert [holder.fraction for holder in gpu.holders()] == [0.5]


@pytest.mark.usefixtures("two_gpus")
def test_without_a_grant_gpus_are_left_alone() -> None:
    with pytest.raises(ConfigError, match=r"^caption\.device: cuda, but no GPU: Snakemake granted"):
        device("caption", "cuda", 1.0, 0, "work").__enter__()
    with device("caption", "auto", 1.0, 0, "work") as place:
        assert place == "cpu"
    with device("caption", "cpu", 1.0, 1, "work") as place:
        assert place == "cpu"
    assert gpu.holders() == []


def test_without_a_gpu_only_the_configuration_allows_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match="there is none here; expected auto or cpu"):
        device("transcript", "cuda", 1.0, 1, "work").__enter__()
    with device("transcript", "auto", 1.0, 1, "work") as place:
        assert place == "cpu"
