"""One test tells whichever library runs out of memory, and nothing else."""

import numpy as np
import pytest
import torch

from spark_trainer.errors import MachineError, of_machine
from spark_trainer.system import memory

TOO_MUCH = 1 << 50  # bytes: beyond the address space that Linux gives a process


def by_numpy() -> None:
    np.ones(TOO_MUCH, dtype=np.uint8)


def by_torch() -> None:
    torch.ones(TOO_MUCH, dtype=torch.uint8)


def by_torch_on_a_gpu() -> None:
    raise torch.OutOfMemoryError("tried to allocate 20 GiB")


def by_ctranslate2() -> None:
    raise RuntimeError("CUDA failed with error out of memory")


LIBRARIES = [by_numpy, by_torch, by_torch_on_a_gpu, by_ctranslate2]


@pytest.mark.parametrize("function", LIBRARIES)
def test_every_library_is_understood_and_the_advice_is_first(function: object) -> None:
    with (
        pytest.raises(memory.OutOfMemory, match=r"^x: expected a smaller x \(.+\)$") as caught,
        memory.fitting("x: expected a smaller x"),
    ):
        function()  # type: ignore[operator]
    assert of_machine(caught.value)
    assert memory.is_out_of_memory(caught.value.__cause__ or caught.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("a file called out of memory.mp4"),
        MachineError("caption.server_url: 500 out of memory"),
    ],
)
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory.fitting("x"):
        raise error
    assert caught.value is error
