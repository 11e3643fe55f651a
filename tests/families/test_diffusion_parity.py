"""What the diffusion families train is what upstream's pipelines run, on tiny random ones.

Each pipeline makes a video while its calls of the network are recorded; between two steps it is
given latents made here from a clip, noise and a noise level. From the same clip, noise and level
the family has to arrive at the very same call. What is one family's own is said by its file,
test_<family>.py:

    material        (number) -> a clip
    parity          (loaded, pipe): the pipeline's call of the network is the family's
    formula         (loaded, batch, draws, output) -> the paper's loss of each sample
    autoencoded     (pipe, pixels) -> what its VAE makes of frames and back
    decoded         (pipe, latents) -> what the pipeline makes of latents, (C, T, H, W)
    trained         (saved, folder) -> what a user puts into the pipeline
    has_adapters    (layers): these are all that low-rank adapters were put into
    TAKES_ADAPTERS  whether the pipeline loads them
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.families.kinds import pipelines
from spark_trainer.families.kinds.diffusion import Diffusion
from spark_trainer.families.kinds.loading import Loaded, LoadOptions

from . import tiny_pipelines
from .golden import DIFFUSION
from .parity import SIZE, batch_of, changed, ours, seeded, upstream


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: getattr(tiny_pipelines, name)(tmp_path_factory.mktemp(name)) for name in DIFFUSION
    }


@pytest.fixture(params=DIFFUSION)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def family(folder: Path) -> Diffusion:
    return families.find(str(folder))


@pytest.fixture
def own(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.test_{name}")


@pytest.fixture
def folder(name: str, folders: dict[str, Path]) -> Path:
    return folders[name]


@pytest.fixture
def loaded(family: Diffusion, folder: Path) -> Loaded:
    return family.load(str(folder), LoadOptions())


def test_the_network_is_called_as_by_the_pipeline(
    own: ModuleType, loaded: Loaded, folder: Path
) -> None:
    own.parity(loaded, upstream(folder))


def test_latents_are_scaled_as_the_pipeline_decodes_them(
    own: ModuleType, family: Diffusion, loaded: Loaded, folder: Path
) -> None:
    pipe, shown = upstream(folder), own.material(1)
    with torch.no_grad():
        expected = own.autoencoded(pipe, pipe.video_processor.preprocess(list(shown.images)))
        made = own.decoded(pipe, family.encode(loaded, shown, SIZE)["latents"][None])
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


def test_the_loss_is_the_papers(own: ModuleType, family: Diffusion, loaded: Loaded) -> None:
    batch = batch_of(family, loaded, [own.material(1), own.material(2)])
    losses = family.losses(loaded, loaded.model, batch, seeded(1, 2))
    draws = family.draw(loaded, batch, seeded(1, 2))
    _, output = ours(loaded, family, batch, draws)
    expected = own.formula(loaded, batch, draws, output.double().numpy())
    assert losses.shape == (2,)
    np.testing.assert_allclose(losses.detach().numpy(), expected, rtol=1e-4)


def test_a_samples_loss_depends_on_its_own_seed_alone(
    own: ModuleType, family: Diffusion, loaded: Loaded
) -> None:
    batch = batch_of(family, loaded, [own.material(1), own.material(2)])
    alone = batch_of(family, loaded, [own.material(2)])
    with torch.no_grad():
        together = family.losses(loaded, loaded.model, batch, seeded(1, 2))
        again = family.losses(loaded, loaded.model, batch, seeded(1, 2))
        one = family.losses(loaded, loaded.model, alone, seeded(2))
        other = family.losses(loaded, loaded.model, alone, seeded(3))
    assert together.equal(again)
    torch.testing.assert_close(together[1:], one, atol=1e-5, rtol=1e-5)
    assert not torch.isclose(one, other)


def test_gradients_are_where_they_should_be(
    own: ModuleType, family: Diffusion, loaded: Loaded
) -> None:
    family.freeze(loaded.model, Run())
    loaded.model.train()
    batch = batch_of(family, loaded, [own.material(1), own.material(2)])
    family.losses(loaded, loaded.model, batch, seeded(1, 2)).sum().backward()
    for parameter_name, parameter in loaded.model.named_parameters():
        part = family.part(parameter_name)
        assert parameter.requires_grad == (part not in family.frozen), parameter_name
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
    trained = [(n, p) for n, p in loaded.model.named_parameters() if p.requires_grad]
    assert trained
    idle = [n for n, p in trained if not p.grad.abs().sum()]
    assert not idle
    for part in loaded.processor.components.values():
        if isinstance(part, torch.nn.Module) and part is not loaded.model:
            assert all(p.grad is None for p in part.parameters())


def test_it_learns(own: ModuleType, family: Diffusion, loaded: Loaded) -> None:
    """The default parts alone bring the loss of a fixed noise down."""
    family.freeze(loaded.model, Run())
    trained = [p for p in loaded.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    batch = batch_of(family, loaded, [own.material(1)])
    seen = []
    for _ in range(8):
        loss = family.losses(loaded, loaded.model, batch, seeded(1)).mean()
        seen.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert seen[-1] < 0.85 * seen[0], seen


def test_what_is_saved_runs_in_the_pipeline(
    own: ModuleType, family: Diffusion, loaded: Loaded, folder: Path, tmp_path: Path
) -> None:
    family.freeze(loaded.model, Run())
    changed(loaded)
    family.save(loaded.model, tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    pipe = upstream(folder, **own.trained(tmp_path, folder))
    own.parity(loaded, pipe)
    with pytest.raises(AssertionError):
        own.parity(loaded, upstream(folder))


def test_samples_are_the_pipelines_own(
    own: ModuleType, family: Diffusion, loaded: Loaded, folder: Path
) -> None:
    loaded.model.requires_grad_(True)
    changed(loaded)
    shown = own.material(1)
    frames = family.sample(loaded, loaded.model, shown, SIZE, 2, seeded(4)[0])
    assert len(frames) == len(shown.images)
    assert {frame.size for frame in frames} == {SIZE}
    assert all(isinstance(frame, Image.Image) for frame in frames)
    again = family.sample(loaded, loaded.model, shown, SIZE, 2, seeded(4)[0])
    assert [frame.tobytes() for frame in frames] == [frame.tobytes() for frame in again]
    before = family.load(str(folder), LoadOptions())
    untrained = family.sample(before, before.model, shown, SIZE, 2, seeded(4)[0])
    assert [frame.tobytes() for frame in frames] != [frame.tobytes() for frame in untrained]


def adapted(family: Diffusion, loaded: Loaded) -> Any:
    """The network with adapters that do something."""
    config = LoraConfig(r=2, lora_alpha=6, target_modules=family.lora_targets)
    model = inject_adapter_in_model(config, loaded.model)
    generator = seeded(9)[0]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def test_low_rank_adapters_run_in_the_pipeline(
    own: ModuleType, family: Diffusion, loaded: Loaded, folder: Path, tmp_path: Path
) -> None:
    model = adapted(family, loaded)
    if own.TAKES_ADAPTERS:
        pipelines.save_adapter(loaded, family.network, model, tmp_path / "adapter")
        assert [file.suffix for file in (tmp_path / "adapter").iterdir()] == [".safetensors"]
        pipe = upstream(folder)
        pipe.load_lora_weights(tmp_path / "adapter")
        own.parity(loaded, pipe)
    else:
        with pytest.raises(ValueError, match=r"train\.save: .* loads no adapter; expected merged"):
            pipelines.save_adapter(loaded, family.network, model, tmp_path)
    with pytest.raises(AssertionError):
        own.parity(loaded, upstream(folder))
    batch = batch_of(family, loaded, [own.material(1)])
    with torch.no_grad():
        before = family.losses(loaded, model, batch, seeded(1))
        pipelines.merge(model)
        after = family.losses(loaded, model, batch, seeded(1))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)
    assert (
        model.state_dict().keys()
        == family.load(str(folder), LoadOptions()).model.state_dict().keys()
    )
    family.save(model, tmp_path)
    own.parity(loaded, upstream(folder, **own.trained(tmp_path, folder)))


def test_low_rank_adapters_find_their_layers(
    own: ModuleType, family: Diffusion, loaded: Loaded
) -> None:
    config = LoraConfig(r=2, target_modules=family.lora_targets)
    model = inject_adapter_in_model(config, loaded.model)
    layers = {n.split(".lora_A")[0] for n, _ in model.named_modules() if n.endswith("lora_A")}
    assert {name.rsplit(".", 1)[-1] for name in layers} >= {"to_q", "to_k", "to_v", "0"}
    own.has_adapters(layers)


def test_another_pipeline_is_refused(
    name: str, family: Diffusion, folders: dict[str, Path]
) -> None:
    other = folders["svd" if name != "svd" else "animatediff"]
    with pytest.raises(ValueError, match=rf"train\.model_name: .* expected a {family.pipeline}"):
        family.load(str(other), LoadOptions())


def test_pickled_weights_are_refused(family: Diffusion, folder: Path, tmp_path: Path) -> None:
    network = family.network
    for path in folder.rglob("*"):
        weights = path.parent.name == network and path.suffix == ".safetensors"
        if path.is_file() and not weights:
            copy = tmp_path / path.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    torch.save({}, tmp_path / network / "diffusion_pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        family.load(str(tmp_path), LoadOptions())


def test_precision_is_the_networks_alone(own: ModuleType, family: Diffusion, folder: Path) -> None:
    loaded = family.load(str(folder), LoadOptions(dtype=torch.bfloat16))
    assert loaded.model.dtype == torch.bfloat16
    components = loaded.processor.components.items()
    others = {n: c.dtype for n, c in components if n != "vae" and isinstance(c, torch.nn.Module)}
    assert set(others.values()) == {torch.bfloat16}
    assert loaded.processor.vae.dtype == torch.float32
    batch = batch_of(family, loaded, [own.material(1)])
    losses = family.losses(loaded, loaded.model, batch, seeded(1))
    assert losses.dtype == torch.float32
    exact = family.load(str(folder), LoadOptions())
    expected = family.losses(exact, exact.model, batch, seeded(1))
    torch.testing.assert_close(losses, expected, atol=0.02, rtol=0.02)


def test_gradient_checkpointing_keeps_less_for_the_same_gradients(
    own: ModuleType, family: Diffusion, folder: Path
) -> None:
    found = [
        _gradients(own, family, folder, prepare)
        for prepare in (
            lambda model: None,
            lambda model: model.enable_gradient_checkpointing(),
            lambda model: family.checkpoint_gradients(model),
        )
    ]
    (expected, plain), (_, upstreams), (again, least) = found
    assert least < upstreams < plain
    assert again.keys() == expected.keys()
    for parameter_name, gradient in expected.items():
        torch.testing.assert_close(again[parameter_name], gradient, atol=1e-5, rtol=1e-3)


def _gradients(
    own: ModuleType, family: Diffusion, folder: Path, prepare: Callable[[Any], None]
) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of what learns by default, and how many numbers were kept for them."""
    loaded = family.load(str(folder), LoadOptions())
    family.freeze(loaded.model, Run())
    prepare(loaded.model.train())
    batch = batch_of(family, loaded, [own.material(1)])
    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = family.losses(loaded, loaded.model, batch, seeded(1)).sum()
    loss.backward()
    grads = {n: p.grad for n, p in loaded.model.named_parameters() if p.grad is not None}
    return grads, sum(kept)


def test_from_scratch_forgets(family: Diffusion, loaded: Loaded, folder: Path) -> None:
    torch.manual_seed(1)
    fresh = family.load(str(folder), LoadOptions(from_scratch=True))
    assert getattr(fresh.processor, family.network) is fresh.model
    known = loaded.model.state_dict()
    moving = family.parts.get("motion")
    for key, value in fresh.model.state_dict().items():
        if moving and family.part(key) == "image":
            assert value.equal(known[key]), key
        elif value.ndim > 1 and known[key].std() > 0 and "pos_embed" not in key:
            assert not value.equal(known[key]), key
