"""The bytes that an estimate rests on are those that one counts by hand."""

from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

N = 64


def test_bytes_and_flops_by_hand(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import gpu_estimate

    with FakeTensorMode():
        x_NN = torch.empty(N, N)
        weight_NN = torch.empty(N, N, requires_grad=True)
        with gpu_estimate.Traffic() as traffic:
            loss = (x_NN.sin().cos() @ weight_NN).exp().sum()
            loss.backward()
    one = 4 * N * N
    # Two passes of matrices: x @ weight, and the weight's gradient.
    assert traffic.computed == 2 * 2 * N**3
    # sin, cos and exp read one and write one, sum reads one; its gradient is spread out as it is
    # multiplied by what exp gave. Ones and sums of one number are nothing beside a matrix.
    eager, small = 2 + 2 + 2 + 1 + 2, 100
    assert 0 <= traffic.eager_bytes - eager * one < small
    # x is read and cos written; exp reads what the product gave, and writes it for the backward
    # pass, which reads it and writes what the second product takes.
    fused = 2 + 2 + 2
    assert 0 <= traffic.fused_bytes - fused * one < small
