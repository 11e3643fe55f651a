"""As much of vLLM's interface as captions need, over transformers on a CPU.

vLLM's own engine needs a GPU. Signatures and behaviour are those of vLLM 0.33.0, to which
`test_vllm.py` holds them: vllm/entrypoints/llm.py and common/offline.py, vllm/engine/arg_utils.py,
vllm/sampling_params.py, vllm/outputs.py and vllm/multimodal/processing/context.py.
"""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig
from transformers.video_utils import VideoMetadata

__version__ = "0.33.0"


@dataclass
class SamplingParams:
    """What is asked of a caption."""

    temperature: float = 1.0
    max_tokens: int | None = 16
    repetition_penalty: float = 1.0


@dataclass
class EngineArgs:
    """What an engine is started with; an unknown key is a TypeError."""

    model: str
    trust_remote_code: bool = False
    tensor_parallel_size: int = 1
    dtype: str = "auto"
    revision: str | None = None
    tokenizer_revision: str | None = None
    gpu_memory_utilization: float = 0.92
    mm_processor_kwargs: dict[str, Any] | None = None
    load_format: str = "auto"
    max_model_len: int | None = None
    limit_mm_per_prompt: dict[str, int] = field(default_factory=dict)
    mm_processor_cache_gb: float = 4


@dataclass
class CompletionOutput:
    """A caption, and why it ends."""

    index: int
    text: str
    token_ids: Sequence[int]
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    """The answer to one request."""

    request_id: str
    outputs: list[CompletionOutput]


class LLM:
    """A model that answers what was put into its queue."""

    started: ClassVar[list[EngineArgs]] = []

    def __init__(
        self,
        model: str,
        *,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        gpu_memory_utilization: float = 0.92,
        mm_processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"  # there is no other process
        self._args = EngineArgs(
            model,
            trust_remote_code,
            tensor_parallel_size,
            dtype,
            revision,
            tokenizer_revision,
            gpu_memory_utilization,
            mm_processor_kwargs,
            **kwargs,
        )
        self.started.append(self._args)
        self._processor = AutoProcessor.from_pretrained(model)
        kind = getattr(torch, dtype)
        self._model = AutoModelForImageTextToText.from_pretrained(model, dtype=kind).eval()
        self._count = itertools.count()
        self._queue: dict[str, tuple[dict[str, Any], SamplingParams]] = {}

    def get_default_sampling_params(self) -> SamplingParams:
        given = GenerationConfig.from_pretrained(self._args.model)
        return SamplingParams(repetition_penalty=given.repetition_penalty or 1.0)

    def enqueue(
        self,
        prompts: Any,
        sampling_params: Any = None,
        lora_request: Any = None,
        priority: Any = None,
        use_tqdm: Any = True,
        tokenization_kwargs: dict[str, Any] | None = None,
        mm_processor_kwargs: dict[str, Any] | None = None,
    ) -> list[str]:
        added = []
        for prompt in prompts:
            made = self._processed(**prompt)
            added.append(str(next(self._count)))
            self._queue[added[-1]] = made, sampling_params
        return added

    def wait_for_completion(
        self, output_type: Any = None, *, use_tqdm: Any = True
    ) -> list[RequestOutput]:
        outputs = [self._answer(id_) for id_ in reversed([*self._queue])]
        self._queue.clear()
        return sorted(outputs, key=lambda one: int(one.request_id))

    def _processed(
        self, *, prompt_token_ids: list[int], multi_modal_data: dict[str, Any]
    ) -> dict[str, Any]:
        """Put what the processor makes of the frames in the place of their one token."""
        ((modality, items),) = multi_modal_data.items()
        assert len(items) <= self._args.limit_mm_per_prompt[modality]
        seen = {"images": items}
        if modality == "video":
            seen = {
                "videos": [frames for frames, _ in items],
                "video_metadata": [VideoMetadata(**metadata) for _, metadata in items],
            }
        token = getattr(self._processor, f"{modality}_token")
        given = self._args.mm_processor_kwargs or {}
        try:
            made = self._processor(text=[token], **seen, **given, return_tensors="pt")
        except Exception as error:
            raise ValueError(f"Failed to apply {type(self._processor).__name__}") from error
        place = prompt_token_ids.index(self._processor.tokenizer.convert_tokens_to_ids(token))
        around = prompt_token_ids[:place], prompt_token_ids[place + 1 :]
        ids = [*around[0], *made["input_ids"][0].tolist(), *around[1]]
        made |= {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))}
        if "mm_token_type_ids" in made:
            types = self._processor.create_mm_token_type_ids([ids])
            made["mm_token_type_ids"] = torch.tensor(types)
        return dict(made)

    def _answer(self, request_id: str) -> RequestOutput:
        inputs, params = self._queue[request_id]
        assert params.temperature == 0
        with torch.inference_mode():
            ids_BL = self._model.generate(
                **inputs,
                max_new_tokens=params.max_tokens,
                repetition_penalty=params.repetition_penalty,
                do_sample=False,
            )
        ids = ids_BL[0, inputs["input_ids"].shape[1] :].tolist()
        text = self._processor.decode(ids, skip_special_tokens=True)
        reason = "length" if len(ids) == params.max_tokens else "stop"
        return RequestOutput(request_id, [CompletionOutput(0, text, ids, reason)])
