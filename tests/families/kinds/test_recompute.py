"""What is kept is not computed again, and what chance draws comes out as it was."""

import pytest
import torch
from torch.nn.functional import dropout, linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from spark_trainer.config.optimization import Recomputed
from spark_trainer.families.kinds import recompute
from tests.train.budget import Asked, asked

WIDTH = 16


def gradients(how: Recomputed, chance: float, seen: int) -> tuple[list[torch.Tensor], Asked]:
    """Those of a layer of attention over `seen` tokens and an MLP, and what was called."""
    torch.manual_seed(0)
    wide, narrow = torch.randn(64, WIDTH), torch.randn(WIDTH, 64)
    weights = [one.requires_grad_() for one in (wide, narrow)]

    def layer(x: torch.Tensor) -> torch.Tensor:
        heads = x.unflatten(-1, (2, 8)).transpose(1, 2)
        keys = heads[:, :, :seen]
        mixed = scaled_dot_product_attention(heads, keys, keys, dropout_p=chance)
        x = dropout(mixed.transpose(1, 2).flatten(2), chance)
        return linear(torch.tanh(linear(x, wide)), narrow).tanh()

    x = torch.randn(1, 32, WIDTH, requires_grad=True)
    with asked() as found:
        again = checkpoint(layer, x, **recompute.options(how)) if how else layer(x)
        again.sum().backward()
    return [one.grad for one in (x, *weights) if one.grad is not None], found


@pytest.mark.parametrize("how", [True, "attention", "selective"])
@pytest.mark.parametrize("chance", [0.0, 0.3])
def test_gradients_are_the_same(how: Recomputed, chance: float) -> None:
    (plain, _), (found, _) = gradients(False, chance, 32), gradients(how, chance, 32)
    assert len(plain) == 3
    assert all(map(torch.equal, plain, found))


@pytest.mark.parametrize(
    ("how", "seen", "attention", "products"),
    [(True, 32, 2, 2), ("attention", 32, 1, 2), ("attention", 4, 2, 2), ("selective", 32, 1, 1)],
)
def test_what_is_kept_is_computed_once(
    how: Recomputed, seen: int, attention: int, products: int
) -> None:
    """Attention to few tokens is made again; so is a product that widens, whatever is kept."""
    _, plain = gradients(False, 0.0, seen)
    _, found = gradients(how, 0.0, seen)
    assert (sum(plain.attention.values()), sum(found.attention.values())) == (1, attention)
    assert found.kernels["mm"] - plain.kernels["mm"] == products
