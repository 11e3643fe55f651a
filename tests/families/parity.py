"""A pipeline's calls of its network beside ours, for the tests of the diffusion families."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from spark_trainer.families.kinds.diffusion import Diffusion, Tensors
from spark_trainer.families.kinds.loading import Loaded

from . import tiny_pipelines

SIZE = (48, 32)
GUIDANCE = 3.0
MANY = 3000  # samples, to see what share of them chance leaves out
# The pipelines guide: they call the network with and without the conditions at once, which are a
# batch of the same sample with the conditions dropped and kept.
BOTH = torch.tensor([True, False])


def upstream(folder: Path, **components: Any) -> Any:
    """The pipeline as a user loads it."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, use_safetensors=True, **components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def batch_of(family: Diffusion, loaded: Loaded, clips: Sequence[Any]) -> Tensors:
    return family.collate([tiny_pipelines.encoded(family, loaded, one, SIZE) for one in clips])


@dataclass(frozen=True)
class Call:
    """One call of the network by a pipeline."""

    arguments: dict[str, Any]
    output: torch.Tensor


def recorded(network: Any, run: Callable[[], Any]) -> list[Call]:
    calls = []
    names = inspect.signature(network.forward)

    def note(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        given = names.bind(*args, **kwargs).arguments
        calls.append(Call({k: v for k, v in given.items() if v is not None}, output[0].clone()))

    handle = network.register_forward_hook(note, with_kwargs=True)
    run()
    handle.remove()
    return calls


def between_steps(latents: Callable[[], torch.Tensor]) -> Callable[..., dict[str, Any]]:
    """Puts these latents in place of the pipeline's own after each step."""
    return lambda pipe, step, timestep, values: {**values, "latents": latents()}


def same(call: Call, arguments: dict[str, Any], output: torch.Tensor) -> None:
    """The pipeline gave the network what we give it, and it said the same."""
    given = dict(call.arguments)
    assert given.pop("return_dict", False) is False
    assert given.keys() == arguments.keys()
    for name, value in given.items():
        expected = value.expand(len(arguments[name])) if value.ndim == 0 else value
        message = f"{name}: {{}}".format
        torch.testing.assert_close(
            arguments[name].float(), expected.float(), atol=1e-5, rtol=1e-5, msg=message
        )
    torch.testing.assert_close(output, call.output, atol=1e-5, rtol=1e-5)


def ours(loaded: Loaded, family: Diffusion, batch: Tensors, draws: Any) -> tuple[Any, torch.Tensor]:
    arguments = family.arguments(loaded, batch, draws)
    with torch.no_grad():
        return arguments, loaded.model(**arguments, return_dict=False)[0]


def changed(loaded: Loaded) -> None:
    """Other weights wherever there is something to train."""
    generator = seeded(9)[0]
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
