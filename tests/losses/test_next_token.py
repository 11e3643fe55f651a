"""The loss against its formula, written out."""

import torch

from spark_trainer.families.kinds.batch import IGNORED
from spark_trainer.losses.next_token import token_loss


def test_sum_of_minus_log_probabilities_of_the_labels() -> None:
    torch.manual_seed(0)
    logits_BLV = torch.randn(2, 4, 7)
    labels_BL = torch.tensor([[1, 2, 3, IGNORED], [4, IGNORED, 6, 0]])
    log_p = logits_BLV.log_softmax(-1)
    wanted = [(0, 0, 2), (0, 1, 3), (1, 1, 6), (1, 2, 0)]  # (row, position, token it predicts)
    expected = -sum(log_p[row, position, token] for row, position, token in wanted)
    torch.testing.assert_close(token_loss(logits_BLV[:, :-1], labels_BL[:, 1:]), expected)


def test_nothing_to_learn_is_zero() -> None:
    assert token_loss(torch.randn(1, 3, 5), torch.full((1, 3), IGNORED)) == 0
