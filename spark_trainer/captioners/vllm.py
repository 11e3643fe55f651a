"""Captions from vLLM's engine in the job itself, on its GPU; the engine forms its own batches.

`LLM.enqueue` has one video's frames processed, so what fails there is that video's own matter.
`LLM.wait_for_completion` runs the model on all of them, so what fails there is no video's fault
(vllm/entrypoints/llm.py, 0.33).
"""

import os
from collections.abc import Sequence
from typing import Any

from spark_trainer.captioners import backends, network
from spark_trainer.captioners.base import Captioner, Prepared, Shown, Trouble
from spark_trainer.captioners.engine import trouble
from spark_trainer.config import Captioning, ConfigError
from spark_trainer.data.sample import Sample
from spark_trainer.errors import MachineError, unexpected
from spark_trainer.families.kinds import prompts
from spark_trainer.system.memory import is_out_of_memory

REQUIREMENT = "vllm>=0.32"
CALLED = ("enqueue", "get_default_sampling_params", "wait_for_completion")  # of `vllm.LLM`
MEMORY = 0.92  # of the job's share of a GPU, as vLLM's own default: the rest is CUDA's
FINISHED = ("stop", "length")  # reasons why a caption ends; at others the engine cut it off


class Vllm(Captioner):
    """A checkpoint in vLLM's engine, which decodes greedily.

    Args:
        settings: those of one captioner.
        threads: cores that work on frames; the model's work is the GPU's.

    Raises:
        ConfigError: vLLM is missing or too old, or it can't run the checkpoint.
        MachineError: the disk, the network or the hub fails, or the engine doesn't start.
    """

    def __init__(self, settings: Captioning, threads: int) -> None:
        import torch

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers are forks
        torch.set_num_threads(threads)
        self._settings = settings
        self._prompt = backends.prompt(settings)
        self._config, self._processor = network.read(settings)
        self._llm = _engine(settings)
        self._decoding = _decoding(self._llm, settings)

    @property
    def facts(self) -> dict[str, Any]:
        """Return the commit of a hub id, dtype and device."""
        commit = getattr(self._config, "_commit_hash", None)
        return {"commit": commit, "dtype": _dtype(self._settings), "device": "cuda"}

    def prepare(self, shown: Shown) -> Prepared:
        """Read the frames, and tokenize the prompt with one token in their place; see `Captioner`.

        Several frames are a video, as for transformers; their pixels are vLLM's to process.
        """
        import numpy as np

        images = shown.images(self._settings.max_side_px)
        as_video = len(images) > 1
        sample = Sample("", tuple(images), shown.times, self._prompt, answer="")
        prompt, _ = prompts.rendered(self._processor, sample, as_video, len(images))
        return {
            "prompt_token_ids": prompts.unexpanded(self._processor, prompt),
            "frames_THWC": np.stack([np.asarray(i) for i in prompts.of_one_size(images)]),
            "metadata": dict(prompts.video_metadata(sample)) if as_video else None,
            "length": len(images),
        }

    def caption(self, batch: Sequence[Prepared]) -> list[str | Trouble]:
        """Give all videos to the engine and wait for their captions; see `Captioner`.

        Raises:
            MachineError: the engine has ended.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        said: dict[int, str | Trouble] = {}
        for number, one in enumerate(batch):
            try:
                self._llm.enqueue([_request(one)], self._decoding, use_tqdm=False)
            except EngineDeadError as error:
                raise _ended(error) from error
            except Exception as error:  # vLLM's own says little, but what it comes from
                below = error.__cause__
                said[number] = trouble(below if isinstance(below, Exception) else error)
        asked = [number for number in range(len(batch)) if number not in said]
        try:
            outputs = self._llm.wait_for_completion(use_tqdm=False)
        except Exception as error:
            raise _ended(error) from error
        said |= zip(asked, map(_said, outputs), strict=True)
        return [said[number] for number in range(len(batch))]


def _request(one: Prepared) -> dict[str, Any]:
    """Return a prepared video as vLLM's `TokensPrompt` (vllm/inputs/llm.py)."""
    import numpy as np
    from PIL import Image

    frames_THWC = np.asarray(one["frames_THWC"])  # reading ahead makes it a tensor
    seen: dict[str, Any] = {"video": [(frames_THWC, one["metadata"])]}
    if one["metadata"] is None:
        seen = {"image": [Image.fromarray(frames_THWC[0])]}
    return {"prompt_token_ids": one["prompt_token_ids"], "multi_modal_data": seen}


def _said(output: Any) -> str | Trouble:
    """Return the caption in a `RequestOutput` (vllm/outputs.py)."""
    (made,) = output.outputs
    if made.finish_reason not in FINISHED:
        return Trouble(f"vLLM cut the caption off: {made.finish_reason}", machine=True)
    return str(made.text).strip()


def _ended(error: Exception) -> MachineError:
    return MachineError(f"caption.engine: vllm has ended: {unexpected(error)}")


def _dtype(settings: Captioning) -> str:
    return "bfloat16" if settings.dtype == "auto" else settings.dtype


def _engine(settings: Captioning) -> Any:
    """Load the checkpoint into an engine on the job's GPU; raises as `Vllm`."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # it would tell its makers what runs
    # A process of the engine's own would outlive a killed job, and keep its GPU's memory.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    vllm = _package()
    with network.loading(settings):
        try:
            return vllm.LLM(
                backends.model_name(settings),
                revision=settings.revision,
                tokenizer_revision=settings.revision,
                trust_remote_code=False,
                load_format="safetensors",
                dtype=_dtype(settings),
                tensor_parallel_size=1,  # a job has one GPU
                gpu_memory_utilization=MEMORY * settings.gpu_fraction,
                max_model_len=-1,  # the checkpoint's own, or what fits beside the weights
                limit_mm_per_prompt={"image": 1, "video": 1},
                mm_processor_kwargs={"do_sample_frames": False},  # they are chosen already
                mm_processor_cache_gb=0,  # no video comes twice
            )
        except OSError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            kind = MachineError if isinstance(error, RuntimeError) else ConfigError
            raise kind(f"caption.engine: vllm doesn't start: {unexpected(error)}") from error


def _package() -> Any:
    """Import vLLM; raises ConfigError where it is missing or lacks what is called."""
    try:
        import vllm
    except ImportError as error:
        raise ConfigError(
            f"caption.engine: vllm can't be imported: {error}; uv pip install {REQUIREMENT!r}"
        ) from error
    for name in CALLED:
        if not hasattr(vllm.LLM, name):
            raise ConfigError(
                f"caption.engine: vllm {vllm.__version__} has no LLM.{name}; "
                f"uv pip install {REQUIREMENT!r}"
            )
    return vllm


def _decoding(llm: Any, settings: Captioning) -> Any:
    """Return the parameters of greedy decoding, with the checkpoint's own repetition penalty."""
    from vllm import SamplingParams

    penalty = settings.repetition_penalty
    if penalty is None:
        penalty = llm.get_default_sampling_params().repetition_penalty
    return SamplingParams(
        temperature=0.0, max_tokens=settings.max_new_tokens, repetition_penalty=penalty
    )
