"""What kernels add up to, by hand."""

from pathlib import Path

import pytest


def test_kernels_that_overlap_are_busy_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import gpu_kernels

    ran = [
        gpu_kernels.Kernel(name, start * 1e6, end * 1e6)
        for name, start, end in [
            ("Memcpy HtoD", 9.0, 10.0),
            ("nvjet_sm90_tst", 1.0, 4.0),
            ("triton_poi_fused_add_convolution_0", 2.0, 3.0),
            ("void pytorch_flash::flash_fwd_kernel", 3.5, 6.0),
            ("nvjet_sm90_tst", 6.0, 6.5),
            ("vectorized_elementwise_kernel", 6.5, 7.0),
        ]
    ]
    found = gpu_kernels.figures(ran)
    kinds = ("products", "compiled", "attention", "copies", "other")
    assert [found[f"{kind}_s"] for kind in kinds] == [3.5, 1.0, 2.5, 1.0, 0.5]
    assert (found["kernels"], found["span_s"], found["busy_s"]) == (6, 9.0, 7.0)
    assert found["slowest"][0] == ["nvjet_sm90_tst", 2, 3.5]
    assert found["idle"] == [["vectorized_elementwise_kernel", "Memcpy HtoD", 2.0]]
    assert gpu_kernels.figures([])["busy_s"] == 0
