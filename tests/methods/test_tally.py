"""What was counted is summed over processes, each of which may have counted nothing."""

import pytest
import torch

from spark_trainer.methods.tally import Tally

HERE = torch.device("cpu")


def test_means_and_spreads_are_of_all_processes() -> None:
    one, other = Tally(), Tally()
    one.add_all("reward", [0.0, 1.0], HERE)
    one.add("entropy", torch.tensor([2.0, 9.0]), torch.tensor([True, False]))
    other.add_all("reward", [4.0], HERE)
    shared = []

    def told(own: torch.Tensor) -> torch.Tensor:
        shared.append(own)
        return own

    names = ["reward", "entropy", "kl"]
    other.take(names, told, HERE)
    found = one.take(names, lambda own: own + shared[0], HERE)
    assert found.keys() == {"reward", "entropy"}
    assert (found["reward"].count, found["reward"].mean) == (3, pytest.approx(5 / 3))
    assert (found["entropy"].count, found["entropy"].mean) == (1, 2.0)
    assert found["reward"].std == pytest.approx(torch.tensor([0.0, 1.0, 4.0]).std().item())
    assert one.take(names, told, HERE) == {}
