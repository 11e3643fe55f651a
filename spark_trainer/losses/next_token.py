"""Cross-entropy of the next token."""

from torch import Tensor
from torch.nn.functional import cross_entropy

IGNORED = -100


def next_token(logits_BLV: Tensor, labels_BL: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sum of the token losses in nats.

    The logits at position i predict the label at i + 1, so the last position predicts nothing
    (transformers/models/blip/modeling_blip_text.py, BlipTextLMHeadModel.forward). A sum, not a
    mean: batches and processes with different numbers of tokens are averaged without bias.

    Args:
        logits_BLV: scores (batch, length, vocabulary).
        labels_BL: token ids (batch, length), -100 where there is nothing to learn.
        label_smoothing: probability spread over the whole vocabulary.
    """
    targets_N = labels_BL[:, 1:].flatten()
    logits_NV = logits_BLV[:, :-1].flatten(0, 1).float()
    return cross_entropy(
        logits_NV,
        targets_N,
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
