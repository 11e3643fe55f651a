"""What another program drew is weighed by how much likelier it is now, up to a limit."""

import pytest
import torch

from spark_trainer.losses.correction import Correction, Mode
from spark_trainer.losses.policy import Policy, Tokens

OWNER = torch.tensor([0, 0, 1, 1])
RATIO = torch.tensor([2.0, 0.5, 3.0, 2.0])  # of the answers 1 and 6


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token_truncate", [2.0, 0.5, 2.5, 2.0]),
        ("token_mask", [2.0, 0.5, 0.0, 2.0]),
        ("sequence_truncate", [1.0, 1.0, 2.5, 2.5]),
        ("sequence_mask", [1.0, 1.0, 0.0, 0.0]),
    ],
)
def test_weights_of_tokens(mode: Mode, expected: list[float]) -> None:
    found = Correction(mode, 2.5).weights(RATIO.log(), OWNER, 2)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_gradients_are_weighed_and_weights_have_none() -> None:
    log = torch.full((4,), -1.0, requires_grad=True)
    drawn = -1.0 - RATIO.log()
    tokens = Tokens(OWNER, torch.tensor([1.0, -1.0]), torch.ones(4), drawn_T=drawn)
    policy = Policy(
        "dapo", "token", 0.2, 0.28, None, 0.0, True, 4, Correction("token_truncate", 2.5)
    )
    found = policy.losses(log, tokens)
    found.total.backward()
    assert log.grad is not None
    torch.testing.assert_close(log.grad, torch.tensor([-2.0, -0.5, 2.5, 2.0]))
    torch.testing.assert_close(found.importance_T, torch.tensor([2.0, 0.5, 2.5, 2.0]))


def test_without_a_correction_nothing_is_weighed() -> None:
    log = torch.full((4,), -1.0)
    tokens = Tokens(OWNER, torch.tensor([1.0, -1.0]), torch.ones(4), drawn_T=log - 1)
    found = Policy("dapo", "token", 0.2, 0.28, None, 0.0, True, 4).losses(log, tokens)
    assert found.importance_T.tolist() == [1.0] * 4
