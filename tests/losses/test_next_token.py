"""The loss against its formula, written out."""

import torch

from spark_trainer.families import IGNORED
from spark_trainer.losses.next_token import next_token


def test_sum_of_minus_log_probabilities_of_the_following_tokens() -> None:
    torch.manual_seed(0)
    logits_BLV = torch.randn(2, 4, 7)
    labels_BL = torch.tensor([[1, 2, 3, IGNORED], [4, IGNORED, 6, 0]])
    log_p = logits_BLV.log_softmax(-1)
    wanted = [(0, 0, 2), (0, 1, 3), (1, 1, 6), (1, 2, 0)]  # (row, position, token it predicts)
    expected = -sum(log_p[row, position, token] for row, position, token in wanted)
    torch.testing.assert_close(next_token(logits_BLV, labels_BL), expected)


def test_nothing_to_learn_is_zero() -> None:
    assert next_token(torch.randn(1, 3, 5), torch.full((1, 3), IGNORED)) == 0
