"""Cross-entropy of tokens."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def token_loss(logits_BLV: Tensor, labels_BL: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sum the token losses in nats, where the logits at a position score the label there.

    It is a sum, not a mean, so that batches and processes with different numbers of tokens can be
    averaged without bias.

    Args:
        logits_BLV: scores (batch, length, vocabulary).
        labels_BL: token ids (batch, length), -100 where there is nothing to learn.
        label_smoothing: probability spread over the whole vocabulary.
    """
    return cross_entropy(
        logits_BLV.flatten(0, 1).to(torch.promote_types(logits_BLV.dtype, torch.float32)),
        labels_BL.flatten(),
        reduction="sum",
        label_smoothing=label_smoothing,
    )
