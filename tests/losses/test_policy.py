"""Policy losses equal those of TRL, and answers' tokens have the probabilities that they should."""

import itertools
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from spark_trainer.losses.correction import Correction
from spark_trainer.losses.policy import Policy, Tokens, log_probabilities

LONGEST = 7
MODES = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
LENGTHS = [3, 7, 1, 5, 2, 6]
FIRST = [sum(LENGTHS[:number]) for number in range(len(LENGTHS))]
SETTINGS = [
    *itertools.product(
        ("grpo", "dr_grpo", "dapo", "cispo", "sapo"),
        ("token", "sequence"),
        ((0.0, True), (0.04, True), (0.04, False)),
        (None, 1.1),
        (False, True),
    )
]


@pytest.fixture(scope="module")
def made() -> dict[str, torch.Tensor]:
    """Log-probabilities of padded answers, far enough from the old ones to be clipped."""
    torch.manual_seed(0)
    new = -torch.rand(6, LONGEST, dtype=torch.float64) * 3
    shift = torch.randn(2, 6, LONGEST, dtype=torch.float64) * 0.3
    mask = (torch.arange(LONGEST) < torch.tensor(LENGTHS)[:, None]).double()
    advantages = torch.randn(6, dtype=torch.float64)
    return {"new": new, "old": new + shift[0], "ref": new + shift[1], "mask": mask, "a": advantages}


def by_trl(
    made: dict[str, torch.Tensor], policy: Policy, mask: Any, importance: Any = None
) -> tuple[Any, Any]:
    """Loss and gradient of TRL's own method, on what stands in for its trainer."""
    trainer = pytest.importorskip(
        "trl.trainer.grpo_trainer", reason="TRL comes with the group bench"
    )
    new = made["new"].clone().requires_grad_()
    accelerator = SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x
    )
    metrics: Any = {"train": defaultdict(list)}
    self = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (new, torch.zeros_like(new), None),
        accelerator=accelerator,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=policy.level,
        beta=policy.beta,
        loss_type=policy.loss_type,
        epsilon_low=policy.epsilon,
        epsilon_high=policy.epsilon_high,
        max_completion_length=policy.longest,
        use_vllm=importance is not None,
        vllm_importance_sampling_correction=True,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        _metrics=metrics,
        args=SimpleNamespace(
            delta=policy.delta,
            use_bias_correction_kl=policy.unbiased,
            sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.05,
            steps_per_generation=1,
        ),
    )
    inputs = {
        "prompt_ids": torch.zeros(6, 1),
        "prompt_mask": torch.ones(6, 1),
        "completion_ids": torch.zeros_like(new),
        "completion_mask": mask,
        "advantages": made["a"],
        "old_per_token_logps": made["old"],
        "ref_per_token_logps": made["ref"],
        "num_items_in_batch": mask.sum(),
        "importance_sampling_ratio": importance,
    }
    loss = trainer.GRPOTrainer._compute_loss(self, None, inputs)
    [gradient] = torch.autograd.grad(loss, new)
    return loss.detach(), gradient


def by_us(
    made: dict[str, torch.Tensor], policy: Policy, learnt: list[bool], drawn: Any = None
) -> tuple[Any, Any]:
    new = made["new"].clone().requires_grad_()
    places = made["mask"].bool()
    owner = torch.arange(6).repeat_interleave(torch.tensor(LENGTHS))
    weights = torch.tensor(policy.weights(LENGTHS), dtype=torch.float64) * torch.tensor(learnt)
    tokens = Tokens(
        owner,
        made["a"],
        weights[owner],
        made["old"][places],
        made["ref"][places] if policy.beta else None,
        torch.ones(6, dtype=torch.float64),
        None if drawn is None else drawn[places],
    )
    loss = policy.losses(new[places], tokens).total / policy.num_targets(LENGTHS, learnt)
    [gradient] = torch.autograd.grad(loss, new)
    return loss.detach(), gradient


@pytest.mark.parametrize(("loss_type", "level", "divergence", "delta", "cut"), SETTINGS)
def test_loss_and_gradient_equal_those_of_trl(
    made: dict[str, torch.Tensor],
    loss_type: Any,
    level: Any,
    divergence: tuple[float, bool],
    delta: float | None,
    cut: bool,
) -> None:
    """`cut` leaves out the answers that were cut before their end, as both name it."""
    high = 1.2 if loss_type == "cispo" else 0.28
    policy = Policy(loss_type, level, 0.2, high, delta, *divergence, LONGEST)
    learnt = [not cut or length < LONGEST for length in LENGTHS]
    mask = made["mask"] * torch.tensor(learnt)[:, None]
    theirs, ours = by_trl(made, policy, mask), by_us(made, policy, learnt)
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-8)
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("mode", MODES)
def test_a_correction_weighs_losses_as_trl_does(made: dict[str, torch.Tensor], mode: Any) -> None:
    """Of the surrogate, not of the divergence; the weights are written out as TRL's are."""
    mask, most = made["mask"], 1.2
    drawn = made["old"] + torch.linspace(-0.4, 0.4, LONGEST, dtype=torch.float64)
    apart = (made["old"] - drawn) * mask
    ratio = (apart.sum(-1, keepdim=True) if "sequence" in mode else apart).exp()
    beyond = most if "truncate" in mode else 0.0
    importance = torch.where(ratio > most, beyond, ratio)
    assert 0 < (ratio > most).sum() < ratio.numel()
    policy = Policy("dapo", "token", 0.2, 0.28, None, 0.04, True, LONGEST, Correction(mode, most))
    ours = by_us(made, policy, [True] * 6, drawn)
    theirs = by_trl(made, policy, mask, importance)
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-8)
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-8)


def test_answers_of_the_same_weights_have_the_gradient_of_their_advantage() -> None:
    """At a ratio of 1 nothing is clipped: each token is pushed by the answer's advantage."""
    policy = Policy("dapo", "token", 0.2, 0.28, None, 0.0, True, 4)
    log = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    tokens = Tokens(torch.tensor([0, 0, 1]), torch.tensor([2.0, -1.0]), torch.ones(3))
    found = policy.losses(log, tokens)
    found.total.backward()
    assert log.grad is not None
    assert log.grad.tolist() == [-2.0, -2.0, 1.0]
    assert not (found.low_T | found.high_T).any()


def test_clipped_tokens_are_told() -> None:
    policy = Policy("dapo", "token", 0.2, 0.28, None, 0.0, True, 4)
    log = torch.tensor([0.5, -0.5, 0.0, 0.5]) - 1
    tokens = Tokens(
        torch.tensor([0, 1, 0, 1]),
        torch.tensor([1.0, -1.0]),
        torch.ones(4),
        old_T=torch.full((4,), -1.0),
    )
    found = policy.losses(log, tokens)
    assert found.high_T.tolist() == [True, False, False, False]
    assert found.low_T.tolist() == [False, True, False, False]


def test_a_flat_group_may_keep_its_distance() -> None:
    """Without an advantage only the divergence would move it."""
    policy = Policy("dapo", "token", 0.2, 0.28, None, 0.5, True, 4)
    log = torch.tensor([-1.0, -2.0], requires_grad=True)
    tokens = Tokens(torch.tensor([0, 1]), torch.zeros(2), torch.ones(2))
    tokens = tokens._replace(reference_T=torch.tensor([-3.0, -3.0]))
    kept = tokens._replace(diverges_S=torch.tensor([0.0, 1.0]))
    [gradient] = torch.autograd.grad(policy.losses(log, kept).total, log)
    assert gradient[0] == 0
    assert gradient[1] != 0


def test_forbidden_tokens_have_no_share() -> None:
    scores = torch.tensor([[1.0, 5.0, 2.0], [0.0, 9.0, 0.0]], requires_grad=True)
    allowed = torch.tensor([True, False, True])
    log, entropy = log_probabilities(scores, torch.tensor([0, 2]), allowed, temperature=2.0)
    shares = torch.softmax(torch.tensor([0.5, 1.0]), 0)
    torch.testing.assert_close(log.detach(), torch.stack([shares[0], torch.tensor(0.5)]).log())
    expected = torch.stack([-(shares * shares.log()).sum(), torch.tensor(2.0).log()])
    torch.testing.assert_close(entropy, expected)
    log.sum().backward()
    assert scores.grad is not None
    assert scores.grad[:, 1].tolist() == [0.0, 0.0]
