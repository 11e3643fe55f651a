"""The bytes of compiled layers are those that one counts by hand; no GPU is there to make them."""

from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

L, N = 1000, 64


class Gate(torch.nn.Module):
    """A gated layer that is frozen, as in a language model with adapters elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("gate", "value"):
            weight = torch.empty(N, 4 * N, dtype=torch.bfloat16)
            self.register_parameter(name, torch.nn.Parameter(weight, requires_grad=False))

    def forward(self, x_LN: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.silu(x_LN @ self.gate) * (x_LN @ self.value)


@pytest.mark.long
@pytest.mark.parametrize("learns", [True, False])
def test_bytes_by_hand(learns: bool, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls of a kind, one graph: a kernel forward, and one backward where something learns."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import gpu_compiled
    import gpu_estimate

    calls = gpu_compiled.Calls()
    with FakeTensorMode():
        layers = [Gate(), Gate()]
        calls.watch(layers)
        with gpu_estimate.Traffic(calls) as traffic:
            for layer in layers:
                layer(torch.empty(L, N, dtype=torch.bfloat16, requires_grad=learns))
    one = 2 * L * 4 * N
    assert traffic.layer_bytes == traffic.eager_bytes == 2 * one * (2 + 3)  # silu, then *
    # Forward: both products are read, what they make is written. Backward: the gradient and both
    # products are read, the gradients of both are written.
    assert calls.compiled() == 2 * one * (3 + (5 if learns else 0))
    # Without a compiler: two kernels for *, and one for silu, each with two inputs; what both
    # products give back for x is added, a quarter of that.
    back = 3 * (one + one + one + one // 4)
    assert calls.backward(gpu_estimate.Traffic) == 2 * (back if learns else 0)
