"""Policy gradients of answers: GRPO and its variants as one weighted sum over tokens.

Shapes: T tokens of all answers of a batch, one answer after the other, S answers, V vocabulary.
Formulas and names as TRL has them (trl/trainer/grpo_trainer.py, GRPOTrainer._compute_loss).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from spark_trainer.losses.correction import Correction

LossType = Literal["grpo", "dr_grpo", "dapo", "cispo", "sapo"]
POSITIVE, NEGATIVE = 1.0, 1.05  # SAPO's temperatures by the sign of the advantage (2511.20347)


class Tokens(NamedTuple):
    """What is known of the tokens of some answers before they are learnt.

    Attributes:
        owner_T: the answer of each token, from 0.
        advantages_S: of each answer.
        weights_T: what a token's loss counts; 0 leaves it out.
        old_T: log-probabilities when the answers were drawn; None: those that are differentiated.
        reference_T: log-probabilities by the weights of the start; None without a divergence.
        diverges_S: what an answer's divergence from those counts: 0 leaves it out.
        drawn_T: log-probabilities by which another program drew them; None where it was this one.
    """

    owner_T: Tensor
    advantages_S: Tensor
    weights_T: Tensor
    old_T: Tensor | None = None
    reference_T: Tensor | None = None
    diverges_S: Tensor | None = None
    drawn_T: Tensor | None = None


class Losses(NamedTuple):
    """The sum over tokens, and of each token what is told of an update, without a gradient.

    Attributes:
        total: the sum, with a gradient.
        kl_T: estimate of the divergence from the weights of the start, 0 where it isn't computed.
        low_T: whether the ratio was clipped below.
        high_T: whether it was clipped above.
        importance_T: what its loss was weighed by, because another program drew it; else 1.
    """

    total: Tensor
    kl_T: Tensor
    low_T: Tensor
    high_T: Tensor
    importance_T: Tensor


@dataclass(frozen=True)
class Policy:
    """How the loss of a token follows from its probability.

    Attributes:
        loss_type: of Shao et al. 2024 (GRPO, arXiv:2402.03300), Liu et al. 2025 (Dr.GRPO,
            2503.20783), Yu et al. 2025 (DAPO, 2503.14476), MiniMax 2025 (CISPO, 2506.13585) or Gao
            et al. 2025 (SAPO, 2511.20347).
        level: whether a ratio is that of a token, or the geometric mean over an answer's (Zheng et
            al. 2025, GSPO, 2507.18071).
        epsilon: a ratio below 1 - epsilon is clipped.
        epsilon_high: one above 1 + epsilon_high is; with `cispo` one above epsilon_high.
        delta: largest ratio of what isn't clipped (2505.07291); None: any.
        beta: weight of the divergence from the weights of the start.
        unbiased: weigh that divergence by the ratio, for an unbiased gradient (2512.02556).
        longest: tokens of an answer at most.
        correction: weighs what another program drew; None: nothing does.
    """

    loss_type: LossType
    level: Literal["token", "sequence"]
    epsilon: float
    epsilon_high: float
    delta: float | None
    beta: float
    unbiased: bool
    longest: int
    correction: Correction | None = None

    def weights(self, lengths: list[int]) -> list[float]:
        """Return what each token of answers of these lengths counts; see `num_targets`."""
        if self.loss_type in ("grpo", "sapo"):
            return [1 / max(1, length) for length in lengths]
        return [1.0] * len(lengths)

    def num_targets(self, lengths: list[int], learnt: list[bool]) -> int:
        """Return what the sum over tokens is divided by, summed over all batches and processes.

        Args:
            lengths: of the answers.
            learnt: whether an answer is learnt; one that isn't counts in a mean over answers.
        """
        if self.loss_type in ("dapo", "cispo"):
            return sum(length for length, one in zip(lengths, learnt, strict=True) if one)
        return len(lengths) * (self.longest if self.loss_type == "dr_grpo" else 1)

    def losses(self, log_T: Tensor, tokens: Tokens) -> Losses:
        """Return the sum of the weighted losses of tokens.

        Args:
            log_T: their log-probabilities, with a gradient.
            tokens: all else that is known of them.
        """
        old_T = log_T.detach() if tokens.old_T is None else tokens.old_T
        advantage_T = tokens.advantages_S[tokens.owner_T]
        ratio_T = self._ratio(log_T - old_T, tokens)
        importance_T = self._importance(old_T, tokens)
        loss_T = self._surrogate(log_T, ratio_T, advantage_T) * importance_T
        kl_T = torch.zeros_like(log_T)
        if tokens.reference_T is not None:
            kl_T = _divergence(log_T, tokens.reference_T)
            weighed_T = kl_T * ratio_T if self.unbiased else kl_T
            if tokens.diverges_S is not None:
                weighed_T = weighed_T * tokens.diverges_S[tokens.owner_T]
            loss_T = loss_T + self.beta * weighed_T
        low_T, high_T = self._clipped(ratio_T.detach(), advantage_T)
        total = (loss_T * tokens.weights_T).sum()
        return Losses(total, kl_T.detach(), low_T, high_T, importance_T)

    def _importance(self, old_T: Tensor, tokens: Tokens) -> Tensor:
        """Return what the losses of tokens are weighed by."""
        if self.correction is None or tokens.drawn_T is None:
            return torch.ones_like(old_T)
        log_ratio_T, num_answers = old_T - tokens.drawn_T, len(tokens.advantages_S)
        return self.correction.weights(log_ratio_T, tokens.owner_T, num_answers)

    def _ratio(self, log_ratio_T: Tensor, tokens: Tokens) -> Tensor:
        """Return how much likelier a token, or the answer that it is of, became."""
        if self.level == "token":
            return log_ratio_T.exp()
        counts = tokens.weights_T != 0
        empty_S = torch.zeros_like(tokens.advantages_S)
        sums_S = empty_S.index_add(0, tokens.owner_T, log_ratio_T * counts)
        lengths_S = empty_S.index_add(0, tokens.owner_T, counts.to(empty_S.dtype))
        return (sums_S / lengths_S.clamp(min=1)).exp()[tokens.owner_T]

    def _surrogate(self, log_T: Tensor, ratio_T: Tensor, advantage_T: Tensor) -> Tensor:
        """Return the losses of tokens, by their advantages alone."""
        if self.loss_type == "cispo":
            return -ratio_T.clamp(max=self.epsilon_high).detach() * advantage_T * log_T
        if self.loss_type == "sapo":
            temperature_T = torch.where(advantage_T > 0, POSITIVE, NEGATIVE)
            soft_T = torch.sigmoid(temperature_T * (ratio_T - 1)) * 4 / temperature_T
            return -soft_T * advantage_T
        clipped_T = ratio_T.clamp(1 - self.epsilon, 1 + self.epsilon_high)
        bounded_T = ratio_T if self.delta is None else ratio_T.clamp(max=self.delta)
        return -torch.min(bounded_T * advantage_T, clipped_T * advantage_T)

    def _clipped(self, ratio_T: Tensor, advantage_T: Tensor) -> tuple[Tensor, Tensor]:
        """Tell which tokens have no gradient, because they are unlikely, or likely, enough."""
        if self.loss_type == "sapo":
            nowhere = torch.zeros_like(ratio_T, dtype=torch.bool)
            return nowhere, nowhere
        if self.loss_type == "cispo":
            nowhere = torch.zeros_like(ratio_T, dtype=torch.bool)
            return nowhere, (ratio_T > self.epsilon_high) & (advantage_T > 0)
        low_T = (ratio_T < 1 - self.epsilon) & (advantage_T < 0)
        return low_T, (ratio_T > 1 + self.epsilon_high) & (advantage_T > 0)


def _divergence(log_T: Tensor, reference_T: Tensor) -> Tensor:
    """Return the k3 estimate of the Kullback-Leibler divergence (Schulman 2020)."""
    further_T = reference_T - log_T
    return further_T.exp() - further_T - 1


def log_probabilities(
    scores_TV: Tensor, ids_T: Tensor, allowed_V: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of tokens (T) and, without a gradient, entropies in nats (T).

    Args:
        scores_TV: of all tokens at each place.
        ids_T: the tokens that were drawn; all are allowed.
        allowed_V: whether a token can be drawn at all.
        temperature: what scores are divided by.
    """
    wide = torch.promote_types(scores_TV.dtype, torch.float32)
    scaled_TV = scores_TV.to(wide) / temperature
    among_T = scaled_TV.masked_fill(~allowed_V, -torch.inf).logsumexp(dim=1)
    log_T = scaled_TV.gather(1, ids_T[:, None]).squeeze(1) - among_T
    with torch.no_grad():
        shares_TV = (scaled_TV - among_T[:, None]).masked_fill(~allowed_V, -torch.inf).exp()
        entropy_T = among_T - (shares_TV * scaled_TV).sum(dim=1)
    return log_T, entropy_T
