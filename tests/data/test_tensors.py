"""A sealed file of tensors shows each change of them."""

from pathlib import Path

import pytest
import torch

from spark_trainer.data import tensors


def test_any_other_byte_of_a_tensor_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "made.safetensors"
    made = {"latents": torch.randn(2, 3).bfloat16(), "one": torch.tensor(1), "no": torch.ones(0, 2)}
    tensors.write(path, made, tensors.seal(made))
    tensors.check(path)
    written = path.read_bytes()
    for place in range(len(written) - 2 * 3 * 2 - 8, len(written)):
        damaged = bytearray(written)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not the tensors that were written"):
            tensors.check(path)
    path.write_bytes(written[:-1])
    with pytest.raises(Exception, match="incomplete"):
        tensors.check(path)
    tensors.write(path, made)  # as earlier versions did
    tensors.check(path)
