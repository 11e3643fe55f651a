"""What the driver's tool prints, read; and which devices a process may use."""

from collections.abc import Callable

import pytest

from spark_trainer.system import gpu
from spark_trainer.system.gpu import driver

A, B = "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77", "GPU-5d5c1e00-90f2-4b3e-a7c8-3b1c9d2e4f60"
ONE, TWO = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"
WHOLE = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\nGPU 1: NVIDIA A100-SXM4-40GB (UUID: {B})\n"
CUT = (
    f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\n"
    f"  MIG 3g.20gb     Device  0: (UUID: {ONE})\n"
    f"  MIG 1c.3g.20gb  Device  1: (UUID: {TWO})\n"
    f"GPU 1: NVIDIA A100-SXM4-40GB (UUID: {B})\n"
)
OLD_MIG = f"MIG-{A}/1/0"
ROWS = (
    f"0, NVIDIA A100-SXM4-40GB, 40960, 1536, 12, 550.54.15, {A}\n"
    f"1, NVIDIA A100-SXM4-40GB, 40960, 3, [N/A], 550.54.15, {B}\n"
)

Install = Callable[[str, str], None]


def test_no_driver() -> None:
    assert gpu.devices() == []
    assert gpu.visible() == []


def test_a_driver_that_fails(install: Install) -> None:
    install(WHOLE, ROWS)
    assert driver._ask("--unknown") == []


def test_devices(install: Install) -> None:
    install(WHOLE, ROWS)
    first, second = gpu.devices()
    assert (first.index, first.uuid, second.uuid) == ("0", A, B)
    assert str(first) == (
        "0: NVIDIA A100-SXM4-40GB, 1536 of 40960 MiB used, 12 % busy, driver 550.54.15"
    )


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        ("", []),
        (WHOLE, ["0", "1"]),
        (CUT, [ONE, TWO, "1"]),
        (CUT.replace(ONE, OLD_MIG), [OLD_MIG, TWO, "1"]),
        ("Unable to determine the device handle for gpu 0000:01:00.0\n" + WHOLE, ["0", "1"]),
    ],
    ids=["none", "whole", "MIG", "MIG of old drivers", "a lost GPU"],
)
def test_all_are_visible(install: Install, listing: str, names: list[str]) -> None:
    install(listing, ROWS)
    assert gpu.visible() == names


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,1", ["0", "1"]),
        (" 3 , 1 ", ["3", "1"]),
        ("1,-1,0", ["1"]),
        ("1,1", ["1"]),
        (f"{A},{B}", [A, B]),
        (f"{ONE},{OLD_MIG}", [ONE, OLD_MIG]),
    ],
)
def test_the_variable_comes_first(
    install: Install, monkeypatch: pytest.MonkeyPatch, allowed: str, names: list[str]
) -> None:
    install(WHOLE, ROWS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert gpu.visible() == names


@pytest.mark.parametrize(
    ("listing", "name", "meant"),
    [
        (WHOLE, "1", B),
        (WHOLE, "01", B),
        (WHOLE, A, A),
        (WHOLE, "GPU-5d5ba", A),
        (WHOLE, "GPU-5d5", "GPU-5d5"),
        (WHOLE, "7", "7"),
        (CUT, "0", ONE),
        (CUT, A, ONE),
        (CUT, TWO, TWO),
        (CUT, "MIG-cb", TWO),
        (CUT, "MIG-c", "MIG-c"),
        (CUT, "1", B),
        ("", "0", "0"),
    ],
)
def test_one_device_has_one_name(install: Install, listing: str, name: str, meant: str) -> None:
    install(listing, ROWS)
    assert driver.canonical(name, driver.listing()) == meant


@pytest.mark.parametrize(
    ("names", "memory"), [(["0"], 40960), (["GPU-aaaa"], None), (["0", "7"], None)]
)
def test_memory_is_the_smallest_ones_or_unknown(
    install: Install, names: list[str], memory: int | None
) -> None:
    install(WHOLE, ROWS)
    assert driver.memory_bytes(names) == (None if memory is None else memory * 2**20)
