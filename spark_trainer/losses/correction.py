"""Importance weights of tokens that another program drew by nearly the same weights.

Shapes: T tokens of all answers of a batch, one answer after the other, S answers.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Mode = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


@dataclass(frozen=True)
class Correction:
    """Weighs tokens by w = exp(l - l_drawn), how much likelier they are where they are learnt.

    A token's own w, or its answer's exp(Σ (l - l_drawn)), truncated to min(w, most) (Yao et al.
    2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training", TIS) or masked
    to 0 above it; as TRL has them (trl/trainer/grpo_trainer.py, `vllm_importance_sampling_mode`).

    Attributes:
        mode: whose w it is, and what becomes of one that is too large.
        most: the largest w.
    """

    mode: Mode
    most: float

    def weights(self, log_ratio_T: Tensor, owner_T: Tensor, num_answers: int) -> Tensor:
        """Return w of each token (T), without a gradient.

        Args:
            log_ratio_T: l - l_drawn.
            owner_T: the answer of each token, from 0.
            num_answers: how many there are (S).
        """
        log_T = log_ratio_T.detach()
        if self.mode.startswith("sequence"):
            sums_S = torch.zeros(num_answers, dtype=log_T.dtype, device=log_T.device)
            log_T = sums_S.index_add(0, owner_T, log_T)[owner_T]
        weight_T = log_T.exp()
        if self.mode.endswith("truncate"):
            return weight_T.clamp(max=self.most)
        return weight_T.masked_fill(weight_T > self.most, 0.0)
