"""FLOPs as they are counted against those that a hand can add up."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from spark_trainer.families.kinds.batch import Batch
from spark_trainer.train import flops, setup
from tests.families import tiny, varlen_on_cpu  # noqa: F401  # torch has that kernel for a GPU

from .conftest import dropping, train, write_run
from .matrix import Live

ROWS, WIDTH, LAYERS = 256, 64, 12


def layer(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    for _ in range(4):
        x = torch.tanh(linear(x, weight))
    return x


def stack(frozen: int, recomputed: bool, scale: float = 1.0) -> None:
    """A pass over layers of four products each, of which the first ones are frozen."""
    torch.manual_seed(0)
    weights = [torch.randn(WIDTH, WIDTH, requires_grad=i >= frozen) for i in range(LAYERS)]
    x = torch.randn(ROWS, WIDTH)
    for weight in weights:
        run = partial(layer, weight)
        x = checkpoint(run, x, use_reentrant=False) if recomputed else run(x)
    (x.sum() * scale).backward()


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("frozen", [0, 5, LAYERS - 1])
def test_only_what_is_needed_is_counted(frozen: int, recomputed: bool) -> None:
    with flops.Counter() as counter:
        stack(frozen, recomputed)
    product = 2 * ROWS * WIDTH * WIDTH
    forward, weights = 4 * LAYERS, 4 * (LAYERS - frozen)
    inputs = weights - 1  # the lowest layer that learns has below it nothing that does
    assert counter.total == product * (forward + weights + inputs)


def test_counting_takes_no_memory() -> None:
    peaks = []
    for counted in (False, True):
        with Live() as live, flops.Counter() if counted else torch.enable_grad():
            stack(0, recomputed=True)
        peaks.append(live.peak)
    with Live() as live:
        stack(0, recomputed=False)
    assert peaks[1] == peaks[0] < 0.8 * live.peak


def test_causal_attention_counts_in_full() -> None:
    query, key, value = torch.randn(3, 2, 4, 16, 8)
    with flops.Counter() as counter:
        scaled_dot_product_attention(query, key, value, is_causal=True)
    assert counter.total == 2 * 4 * (2 * 16 * 16 * 8) * 2


@pytest.mark.parametrize("recomputed", [False, True])
def test_varlen_attention_counts_segment_by_segment(recomputed: bool) -> None:
    """Two products forward and five backward, of each query's heads with those that share a key."""
    query, key, value = (torch.randn(8, heads, 16, requires_grad=True) for heads in (4, 2, 2))
    ends, longest = torch.tensor([0, 3, 8], dtype=torch.int32), 5
    given = query, key, value, ends, ends, longest, longest
    attend: Any = partial(varlen_attn, enable_gqa=True)
    with flops.Counter() as counter:
        seen = checkpoint(attend, *given, use_reentrant=False) if recomputed else attend(*given)
        seen.sum().backward()
    product = 2 * 4 * 16 * (3 * 3 + 5 * 5)
    assert counter.total == (2 + 5) * product
    assert counter.recomputed == (2 * product if recomputed else 0)


def test_each_shape_of_clip_is_counted_once() -> None:
    meter = flops.Meter()
    weight = torch.randn(4, 4)

    def over(clips: int, frames: int) -> float:
        latents = torch.randn(clips, frames, 4)
        with meter.over(Batch({"latents": latents, "seeds": [0] * clips}, clips)):
            linear(latents, weight)
        return meter.take()

    frame = 2 * 4 * 4
    assert over(1, 5) == 5 * frame
    assert over(3, 5) == 15 * frame
    assert over(2, 9) == 18 * frame
    assert over(2, 5) == 10 * frame
    assert meter.take() == 0


def test_batches_of_about_as_many_tokens_count_alike() -> None:
    """Each token of a long row needs more than one of a short row, where all attend to all."""
    meter, counted = flops.Meter(), []

    def over(length: int) -> float:
        tokens = torch.randn(1, 1, length, 4)
        with meter.over(Batch({"tokens": tokens}, 1, num_tokens=length)):
            scaled_dot_product_attention(tokens, tokens, tokens)
        counted.append(meter.shapes)
        return meter.take()

    pair = 2 * (2 * 4)
    assert [over(length) for length in (100, 101, 300, 100)] == [
        pair * 100**2,
        pytest.approx(pair * 100 * 101),  # by what a token of the first needs
        pair * 300**2,
        pair * 100**2,
    ]
    assert counted == [1, 1, 2, 2]


def test_only_so_many_shapes_are_counted() -> None:
    """A batch beyond them takes a token of the nearest that was."""
    meter = flops.Meter()

    def over(length: int, needed: int) -> float:
        with meter.over(Batch({}, 1, num_tokens=length)):
            linear(torch.randn(length, 1), torch.randn(needed, 1))
        return meter.take() / (2 * length)

    lengths = [round(10 * flops.ALIKE ** (2 * number)) for number in range(flops.MOST_SHAPES)]
    for needed, length in enumerate(lengths, 1):
        assert over(length, needed) == needed
    beyond = round(lengths[-1] * flops.ALIKE**3)
    assert over(beyond, 1) == pytest.approx(flops.MOST_SHAPES)
    assert over(lengths[0], 9) == 1
    assert meter.shapes == flops.MOST_SHAPES


@pytest.mark.parametrize("change", ["padded", "learnt", "pixels"])
def test_what_a_token_needs_depends_on_what_is_beside_it(change: str) -> None:
    """Batches of as many tokens, with more padding, more that is learnt, or more pixels."""
    meter, weight = flops.Meter(), torch.randn(4, 4)

    def over(there: dict[str, int]) -> float:
        ids = torch.zeros(1, there["padded"], dtype=torch.long)
        tensors = {"ids": ids, "pixels": torch.randn(there["pixels"], 4)}
        with meter.over(Batch(tensors, there["learnt"], num_tokens=200)):
            linear(torch.randn(sum(there.values()), 4), weight)
        return meter.take()

    few = {"padded": 300, "learnt": 20, "pixels": 50}
    for there in (few, few | {change: 400}, few):
        assert over(there) == 2 * 4 * 4 * sum(there.values())


def test_counting_changes_nothing(make: Any, checkpoint: Path, tmp_path: Path) -> None:
    """Not even what chance draws for dropout."""
    keys = {"model_name": str(dropping(checkpoint, tmp_path)), "max_steps": 3}
    plain = train(write_run(make("plain", **keys)))
    counted = train(write_run(make("counted", peak_tflops=1e-3, **keys)))
    assert [{k: v for k, v in line.items() if k != "mfu"} for line in counted] == plain
    assert sum("mfu" in line for line in counted) == 3


@pytest.mark.parametrize("variant", ["blip", "blip2", "blip2_t5"])
def test_tokens_count_the_image_too(variant: str, make: Any, tmp_path: Path) -> None:
    """What the language model reads, image included, and what it writes."""
    folder = getattr(tiny, variant)(tmp_path / variant)
    run = write_run(make(model_name=str(folder), batch_size=2, max_steps=2, global_batch_size=2))
    [batch] = setup.prepare(run).training[[0, 1]].batches
    text = int(batch.tensors["attention_mask"].sum())
    seen = {"blip": text + 2 * (1 + 6 * 6), "blip2": text}
    written = int((batch.tensors["labels"] != -100).sum())
    assert batch.num_tokens == seen.get(variant, text + written)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 NVL", 835.0),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GH200 480GB", 989.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L40", 181.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ],
)
def test_a_card_is_not_taken_for_another(name: str, peak: float | None) -> None:
    assert flops.known_peak(name) == peak
