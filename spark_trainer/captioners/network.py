"""The captioner of all backends that run a checkpoint with transformers.

Shapes: B videos, L tokens.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer.captioners import backends
from spark_trainer.captioners.base import Captioner, Prepared, Shown
from spark_trainer.config import Captioning, ConfigError
from spark_trainer.data import models
from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds import padding, prompts
from spark_trainer.families.kinds.loading import nf4
from spark_trainer.system import environment

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PACKAGES = ("torch", "transformers", "accelerate")
# (processor, images, times in seconds, prompt) -> the processor's output for one video.
Inputs = Callable[[Any, "Sequence[Image]", Sequence[float], str], dict[str, Any]]


def image(
    processor: Any, images: "Sequence[Image]", times: Sequence[float], prompt: str
) -> dict[str, Any]:
    """Prepare one image and a prompt by the processor alone."""
    return dict(processor(images=images[0], text=prompt, return_tensors="pt"))


def conversation(
    processor: Any, images: "Sequence[Image]", times: Sequence[float], prompt: str
) -> dict[str, Any]:
    """Prepare an image, or several as a video, and a question, in the chat template."""
    sample = Sample("", tuple(images), tuple(times), prompt, answer="")
    return prompts.ask(processor, sample, as_video=len(images) > 1)


@contextlib.contextmanager
def loading(settings: Captioning) -> Iterator[None]:
    """Say which checkpoint can't be loaded, and whose trouble that is.

    Raises:
        ConfigError: the checkpoint is missing or incomplete.
        MachineError: the disk, the network or the hub fails.
    """
    try:
        yield
    except OSError as error:
        name, where = backends.model_name(settings), backends.key(settings)
        raise models.unusable(f"{where}: {name} can't be loaded: {error}", error) from error


def read(settings: Captioning) -> tuple[Any, Any]:
    """Return upstream's configuration and processor of a checkpoint.

    Raises:
        ConfigError: the checkpoint is missing, incomplete, or for another backend.
        MachineError: the disk, the network or the hub fails.
    """
    from transformers import AutoConfig, AutoProcessor

    module = backends.backend(settings.captioner_backend)
    name, where = backends.model_name(settings), backends.key(settings)
    with loading(settings):
        config = AutoConfig.from_pretrained(name, revision=settings.revision)
        if config.model_type not in module.MODEL_TYPES:
            raise ConfigError(
                f"{where}: {name} is a {config.model_type!r} checkpoint; "
                f"expected {' or '.join(module.MODEL_TYPES)}"
            )
        processor = AutoProcessor.from_pretrained(name, revision=settings.revision)
    if module.SEES_VIDEO and not processor.chat_template:
        raise ConfigError(f"{where}: {name} lacks a chat template (chat_template.jinja)")
    return config, processor


class Network(Captioner):
    """A checkpoint and its processor.

    Args:
        settings: those of one captioner.
        device: `cuda` or `cpu`.
        threads: cores on a CPU.
        inputs: prepares images and prompt as the backend needs them.
        echo: keep the prompt at the beginning of the caption, where the model repeats it.

    Raises:
        ConfigError: the checkpoint is missing, incomplete, or for another backend.
        MachineError: the disk, the network or the hub fails.
    """

    def __init__(
        self, settings: Captioning, device: str, threads: int, inputs: Inputs, echo: bool = False
    ) -> None:
        import torch
        from transformers import AutoModelForImageTextToText

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers are forks
        torch.set_num_threads(threads)
        environment.quiet_libraries()
        self._settings, self._inputs, self._echo = settings, inputs, echo
        self._sees_video = backends.backend(settings.captioner_backend).SEES_VIDEO
        self._prompt = backends.prompt(settings)
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("caption.device: a GPU is here, but this PyTorch can't use it")
        _, self._processor = read(settings)
        with loading(settings):
            self._model = AutoModelForImageTextToText.from_pretrained(
                backends.model_name(settings),
                revision=settings.revision,
                use_safetensors=True,
                device_map=device,
                **_weights(settings, device),
            ).eval()

    @property
    def facts(self) -> dict[str, Any]:
        """Return the commit of a hub id, dtype and device."""
        weight = self._model.dtype
        commit = getattr(self._model.config, "_commit_hash", None)
        return {
            "commit": commit,
            "dtype": str(weight).removeprefix("torch."),
            "device": self._device,
        }

    @property
    def _device(self) -> str:
        return str(self._model.device.type)

    def prepare(self, shown: Shown) -> Prepared:
        """Read the frames, and prepare them and the prompt; see `Captioner`."""
        seen = shown if self._sees_video else shown.middle()
        images = seen.images(self._settings.max_side_px)
        inputs = self._inputs(self._processor, images, seen.times, self._prompt)
        length = inputs["input_ids"].shape[1] if "input_ids" in inputs else 1
        # Converted here to the model's precision, so that waiting inputs take half the memory.
        dtype = self._model.dtype
        prepared = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
        return {**prepared, "length": length}

    def caption(self, batch: Sequence[Prepared]) -> list[str]:
        """Caption a batch; images and videos, and videos of other lengths, go separately."""
        groups: dict[Any, list[int]] = {}
        for number, one in enumerate(batch):
            groups.setdefault((*sorted(one), padding.num_frames(one)), []).append(number)
        captions: dict[int, str] = {}
        for numbers in groups.values():
            texts = self._generate([batch[number] for number in numbers])
            captions |= dict(zip(numbers, texts, strict=True))
        return [captions[number] for number in range(len(batch))]

    def _generate(self, batch: Sequence[Prepared]) -> list[str]:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        inputs = self._collate(batch)
        # cuDNN would build a plan, for 23 to 37 ms, at every length, and each token is a new one.
        kernels = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
        with torch.inference_mode(), sdpa_kernel(kernels):
            ids_BL = self._model.generate(**inputs, **_decoding(self._settings))
        repeats = not self._model.config.text_config.is_encoder_decoder
        if repeats and not self._echo:
            ids_BL = ids_BL[:, inputs["input_ids"].shape[1] :]
        texts = self._processor.batch_decode(ids_BL, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _collate(self, batch: Sequence[Prepared]) -> "dict[str, torch.Tensor]":
        """Pad the rows on the left, so that generated tokens follow each prompt directly."""
        from torch.nn.utils.rnn import pad_sequence

        rows = {name for name in batch[0] if name in padding.PER_TOKEN}
        fills = {"input_ids": self._processor.tokenizer.pad_token_id or 0}
        inputs = {
            name: pad_sequence(
                [one[name][0] for one in batch],
                batch_first=True,
                padding_value=fills.get(name, 0),
                padding_side="left",
            )
            for name in rows
        }
        inputs |= padding.join(
            [{k: v for k, v in one.items() if k not in rows and k != "length"} for one in batch]
        )
        return {name: value.to(self._device) for name, value in inputs.items()}


def _weights(settings: Captioning, device: str) -> dict[str, Any]:
    """Return upstream's options to load the weights."""
    import torch
    from transformers import BitsAndBytesConfig

    dtype = settings.dtype
    if dtype == "auto":
        # Cards before Ampere emulate bfloat16, many times slower than float32.
        fast = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = "bfloat16" if fast else "float32"
    options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if settings.quantization == "8bit":
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    elif settings.quantization == "4bit":
        options["quantization_config"] = BitsAndBytesConfig(**nf4(options["dtype"]))
    return options


def _decoding(settings: Captioning) -> dict[str, Any]:
    """Return the options of `generate`; without sampling: same frames, same caption."""
    decoding: dict[str, Any] = {
        "max_new_tokens": settings.max_new_tokens,
        "num_beams": settings.num_beams,
        "do_sample": False,
        "no_repeat_ngram_size": settings.no_repeat_ngram_size,
    }
    if settings.repetition_penalty is not None:
        decoding["repetition_penalty"] = settings.repetition_penalty
    return decoding
