"""The weights of the start, which a run that learns from rewards may be held close to."""

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from spark_trainer.families.kinds.batch import Batch
from spark_trainer.rollouts.learning import Scorer
from spark_trainer.system import log

if TYPE_CHECKING:
    import torch

GIB = 2**30


def copied(model: "torch.nn.Module") -> "torch.nn.Module":
    """Return a frozen copy of a network, which shares what does not learn."""
    import torch

    learning = [one for one in model.parameters() if one.requires_grad]
    size = sum(one.numel() * one.element_size() for one in learning)
    text = "train.rft.beta: the weights of the start stay beside the others, %.2f GiB more"
    log.logger.info(text, size / GIB)
    copies: dict[int, Any] = {id(one): one for one in (*model.parameters(), *model.buffers())}
    for one in learning:
        copies[id(one)] = torch.nn.Parameter(one.detach().clone(), requires_grad=False)
    return copy.deepcopy(model, copies).eval()


@dataclass(frozen=True)
class Reference:
    """Gives probabilities as the network did at the start.

    Attributes:
        scorer: that of the network in training.
        network: a copy of it at the start; None where it was as it is without its adapters.
    """

    scorer: Scorer
    network: Any

    def log_probabilities(self, model: Any, batch: Batch) -> "torch.Tensor":
        """Return those of the tokens (T) of a batch of answers.

        Args:
            model: the network in training, unwrapped.
            batch: the answers, ready.
        """
        if self.network is not None:
            there = replace(self.scorer.loaded, model=self.network.to(model.device))
            return replace(self.scorer, loaded=there).log_probabilities(there.model, batch)[0]
        model.disable_adapters()
        try:
            return self.scorer.log_probabilities(model, batch)[0]
        finally:
            model.enable_adapters()
