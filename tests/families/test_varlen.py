"""One call of attention for each layer, whatever stands in a row, and no wait for the device."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.varlen import varlen_attn
from torch.utils._pytree import tree_map_only
from transformers import modeling_flash_attention_utils as flash

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds.attention import SEGMENTS, VARLEN
from spark_trainer.families.kinds.batch import ON_HOST, Batch
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.train import setup
from tests.train.budget import Asked, asked, deeper
from tests.train.conftest import fresh

from . import tiny, varlen_on_cpu  # noqa: F401  # the kernel of a GPU runs here too
from .conftest import clip

FAMILIES = ["internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
SIZES = ((80, 60), (200, 50), (40, 120), (60, 60))


class Model:
    """A family's tiny model that attends as on a GPU."""

    def __init__(self, checkpoint: Path, finetune: str = "full", recomputed: bool = False) -> None:
        self.family: Any = families.find(str(checkpoint))
        self.loaded: Loaded = self.family.load(str(checkpoint), LoadOptions(packed=True))
        torch.manual_seed(0)
        learns = self.family.freeze if finetune == "full" else self.family.add_adapters
        learns(self.loaded.model, Run(freeze=(), finetune=finetune))
        if recomputed:
            self.family.checkpoint_gradients(self.loaded.model)
        torch.backends.cuda.enable_cudnn_sdp(self.family.fixed_shapes)  # as `setup.model` does
        self.attend_by(VARLEN)

    def attend_by(self, name: str) -> None:
        for part in self.family.tells_lengths:
            getattr(self.loaded.model.config, part)._attn_implementation = name

    def layers(self) -> list[torch.nn.Module]:
        """Upstream's layers that attend by VARLEN."""
        return list(self.family.layers_to_compile(self.loaded))

    def batch(self, samples: list[Sample], packed: bool = True) -> Batch:
        encoded = [self.family.encode(self.loaded, sample, 4096) for sample in samples]
        return self.family.collate(self.loaded, encoded, packed)

    def loss(self, batch: Batch) -> torch.Tensor:
        return self.family.loss(self.loaded, self.loaded.model, batch)

    def learn(self, batch: Batch) -> list[float]:
        """The loss of a batch, and the sum of each gradient's squares."""
        loss = self.loss(batch)
        loss.backward()
        learnt = [p for p in self.loaded.model.parameters() if p.grad is not None]
        told = [loss.item(), *(p.grad.square().sum().item() for p in learnt)]
        self.loaded.model.zero_grad()
        return told

    def asks(self, batch: Batch) -> Asked:
        """What a forward and a backward pass ask of the device."""
        with asked() as found:
            self.loss(batch).backward()
        return found


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return getattr(tiny, request.param)(tmp_path_factory.mktemp(request.param))


@pytest.fixture
def model(checkpoint: Path) -> Model:
    return Model(checkpoint)


@pytest.mark.parametrize("packed", [True, False])
def test_a_layer_attends_once_and_waits_for_nothing(
    checkpoint: Path, clips: list[Sample], tmp_path: Path, packed: bool
) -> None:
    """One layer more that writes and, where frames may differ in size, one more that sees."""
    sees = "qwen" in checkpoint.name
    found = []
    for depth in (2, 3):
        folder = deeper(checkpoint, tmp_path / str(depth), depth, depth if sees else None)
        model = Model(folder)
        found.append(model.asks(model.batch(clips, packed)))
    more = found[1].beyond(found[0])
    assert more.varlen.total() == 1 + sees
    assert more.attention.total() == 0
    assert more.waits == 0


def test_no_length_makes_a_shape_of_its_own(model: Model) -> None:
    """What cuDNN would plan for is the same for rows of all lengths, packed and padded."""
    shapes = set()
    for number in range(6):
        samples = [clip(number, "dog " * (1 + 3 * number)), clip(number + 1, "a")]
        for packed in (True, False):
            shapes |= set(model.asks(model.batch(samples, packed)).attention)
    assert len(shapes) <= 1  # of InternVL's tiles


@pytest.mark.parametrize("checkpoint", [*FAMILIES, "llava"], indirect=True)
@pytest.mark.parametrize("finetune", ["full", "lora"])
def test_layers_compile_for_all_lengths(
    checkpoint: Path, graphs: CompileCounter, finetune: str
) -> None:
    """Of each class a graph for what needs no gradient, and one for what does."""
    model, plain = (Model(checkpoint, finetune, recomputed=True) for _ in range(2))
    layers = model.layers()
    model.family.compile_layers(model.loaded)
    for number in range(20):
        size = SIZES[number % len(SIZES)]
        samples = [clip(i, "dog " * (1 + 5 * number), size=size) for i in range(2 + number % 3)]
        batch = model.batch(samples)
        assert model.learn(batch) == plain.learn(batch)
    assert graphs.frame_count <= 2 * len({type(layer) for layer in layers})


def test_layers_of_other_attention_are_not_compiled(model: Model) -> None:
    """A call for each sample would make a graph for each number of samples."""
    model.attend_by("sdpa")
    with pytest.raises(ValueError, match=r"train\.compile: expected true or false, layers compile"):
        model.family.compile_layers(model.loaded)


def test_layers_run_on_a_gpu_that_is_not_there(model: Model, clips: list[Sample]) -> None:
    """Upstream's layers as the batch calls them, in the precision and on the device of a GPU."""
    calls: list[tuple[torch.nn.Module, Any, Any, torch.Size]] = []

    def seen(layer: torch.nn.Module, args: Any, kwargs: Any, out: torch.Tensor) -> None:
        calls.append((layer, args, kwargs, out.shape))

    hooks = [layer.register_forward_hook(seen, with_kwargs=True) for layer in model.layers()]
    model.loss(model.batch(clips))
    for hook in hooks:
        hook.remove()
    for layer, *call, shape in calls:
        with FakeTensorMode(), asked() as found:
            args, kwargs, weights = tree_map_only(
                torch.Tensor, on_gpu, (*call, dict(layer.named_parameters()))
            )
            out = torch.func.functional_call(layer, weights, args, kwargs)
        assert (out.device.type, out.dtype, out.shape) == ("cuda", torch.bfloat16, shape)
        assert found.varlen.total() == 1
        assert found.waits == 0


def on_gpu(tensor: torch.Tensor) -> torch.Tensor:
    dtype = torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype, device="cuda")


def test_flash_attention_gets_the_same_lengths(
    model: Model, clips: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As upstream calls the package of that name, here computed on a CPU."""
    batch = model.batch(clips)
    expected = model.asks(batch)
    loss = model.loss(batch)
    monkeypatch.setattr(flash, "_loaded_implementation", "flash_attention_2")
    monkeypatch.setattr(flash, "_flash_varlen_fn", flash_attn_varlen_func)
    takes = flash._lazy_define_process_function(flash_attn_varlen_func)
    monkeypatch.setattr(flash, "_process_flash_kwargs_fn", takes)
    model.attend_by("flash_attention_2")
    torch.testing.assert_close(model.loss(batch), loss)
    assert model.asks(batch).waits == expected.waits + 1  # it looks once whether rows are packed


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    softmax_scale: float | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """What the package computes, for its main arguments."""
    window = (-1, 0) if causal else (-1, -1)
    ends, longest = (cu_seqlens_q, cu_seqlens_k), (max_seqlen_q, max_seqlen_k)
    made = varlen_attn(
        q, k, v, *ends, *longest, scale=softmax_scale, window_size=window, enable_gqa=True
    )
    assert isinstance(made, torch.Tensor)
    return made


def test_answers_are_the_same(checkpoint: Path, clips: list[Sample], model: Model) -> None:
    """Generation tells a language model no lengths, and works out a tower's as it sees."""
    usual = model.family.load(str(checkpoint), LoadOptions())
    said = [
        model.family.generate(loaded, loaded.model, clips[0], 8) for loaded in (usual, model.loaded)
    ]
    assert said[0] == said[1]


@pytest.fixture
def process() -> Iterator[None]:
    """What Accelerate keeps for a process that trains."""
    Accelerator(cpu=True)
    yield
    fresh()


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(
    ("device", "precision", "attention", "taken"),
    [
        ("cuda", "bf16", "auto", True),
        ("cuda", "no", "auto", False),
        ("cuda", "bf16", "sdpa", False),
        ("cpu", "bf16", "auto", False),
    ],
)
def test_a_run_takes_it_on_a_gpu_in_16_bits(
    checkpoint: Path,
    device: str,
    precision: str,
    attention: str,
    taken: bool,
    packing: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it can't take it for is told once for each part, where it was not chosen."""
    settings = {"mixed_precision": precision, "attention": attention, "packing": packing}
    run, family = Run(model_name=str(checkpoint), **settings), families.find(str(checkpoint))
    config = setup.model(run, family, device).model.config
    assert isinstance(family, ChatModel)
    found = {part: getattr(config, part)._attn_implementation for part in family.tells_lengths}
    own = {"text_config": SEGMENTS if packing else "sdpa", "vision_config": "sdpa"}
    assert found == {part: VARLEN if taken else own[part] for part in found}
    told = [message for message in caplog.messages if "train.attention" in message]
    assert len(told) == (len(found) if (device, precision) == ("cuda", "no") else 0)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_sizes_stay_where_upstream_reads_them(model: Model, clips: list[Sample]) -> None:
    moved = model.batch(clips).to(torch.device("meta")).tensors
    tensors = {name: value for name, value in moved.items() if isinstance(value, torch.Tensor)}
    here = {name for name, value in tensors.items() if value.device.type == "cpu"}
    assert here == {name for name in tensors if name in ON_HOST}
