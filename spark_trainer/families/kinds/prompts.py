"""A sample as one exchange in a checkpoint's own chat template, and the tokens of its question.

The prompt is tokenised exactly as for generation, with the images in it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer.data.sample import Sample

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PROMPT = "Describe the video."


def ask(processor: Any, sample: Sample, as_video: bool) -> "dict[str, torch.Tensor]":
    """Return a question as generation takes it: the prompt up to the answer, and the frames."""
    inputs, _ = asked(processor, sample, as_video)
    return inputs


def asked(processor: Any, sample: Sample, as_video: bool) -> "tuple[dict[str, torch.Tensor], str]":
    """Return a question as generation takes it, and the text from where the answer starts."""
    prompt, rest = rendered(processor, sample, as_video, len(sample.images))
    made = processed(processor, sample, prompt, as_video)
    return _tensors(made), rest


def rendered(processor: Any, sample: Sample, as_video: bool, num_images: int) -> tuple[str, str]:
    """Return the exchange as text, up to where the answer starts, and from there on."""
    seen = [{"type": "video"}] if as_video else [{"type": "image"}] * num_images
    question = {"type": "text", "text": PROMPT if sample.prompt is None else sample.prompt}
    opening = [{"role": "user", "content": [*seen, question]}]
    said = {"role": "assistant", "content": [{"type": "text", "text": sample.answer}]}
    prompt = processor.apply_chat_template(opening, add_generation_prompt=True, tokenize=False)
    whole = processor.apply_chat_template([*opening, said], tokenize=False)
    if whole.startswith(prompt):
        return str(prompt), str(whole[len(prompt) :].rstrip())
    # LLaVA-OneVision's template puts a space before an answer's line break, and none when it asks
    # for one. What generation will see is what is trained on.
    start = whole.rfind(sample.answer)
    if start < 0:
        raise ValueError(f"train.model_name: its chat template changes the answer: {whole[:400]!r}")
    return str(prompt), str(whole[start:].rstrip())


def processed(
    processor: Any, sample: Sample, prompt: str, as_video: bool, **options: Any
) -> dict[str, Any]:
    """Return what upstream's processor makes of the prompt and the frames."""
    seen: dict[str, Any] = {"images": [list(sample.images)]}
    if as_video:
        seen = {
            "videos": [of_one_size(sample.images)],
            "video_metadata": [video_metadata(sample)],
            "do_sample_frames": False,
        }
    special = lacks_bos(processor, prompt)
    made = processor(
        text=[prompt], **seen, **options, add_special_tokens=special, return_tensors="pt"
    )
    return dict(made)


def expanded(
    processor: Any, prompt: str, replacements: list[str], as_video: bool
) -> "dict[str, torch.Tensor]":
    """Return the tokens (1, L) of a prompt, as upstream's processor makes them beside the frames.

    Args:
        processor: upstream's.
        prompt: the text up to where the answer starts.
        replacements: what the processor writes for each image, or for the video.
        as_video: whether it is a video.
    """
    name = "videos_replacements" if as_video else "images_replacements"
    text, _ = processor.get_text_with_replacements([prompt], **{name: replacements})
    made = processor.tokenizer(text, add_special_tokens=lacks_bos(processor, prompt))
    if processor.return_mm_token_type_ids:
        made["mm_token_type_ids"] = processor.create_mm_token_type_ids(made["input_ids"])
    return _tensors(made)


def unexpanded(processor: Any, prompt: str) -> list[int]:
    """Return the tokens of a prompt in which one token stands for each image, or for the video."""
    special = lacks_bos(processor, prompt)
    ids: list[int] = processor.tokenizer(prompt, add_special_tokens=special)["input_ids"]
    return ids


def lacks_bos(processor: Any, prompt: str) -> bool:
    """Tell whether the chat template leaves the text's first token to the tokenizer."""
    bos = processor.tokenizer.bos_token
    return not (bos and prompt.startswith(bos))


def _tensors(made: Mapping[str, Any]) -> "dict[str, torch.Tensor]":
    import torch

    return {name: torch.as_tensor(value) for name, value in made.items()}


def of_one_size(images: "Sequence[Image]") -> "list[Image]":
    """Return a video's frames in their commonest size; upstream's processors stack them.

    A frame of another size, as where a phone was turned, keeps its shape between bars.
    """
    from PIL import ImageOps

    sizes = [image.size for image in images]
    size = max(sizes, key=sizes.count)
    return [image if image.size == size else ImageOps.pad(image, size) for image in images]


def video_metadata(sample: Sample) -> Any:
    """Return the frames' times in the form in which upstream's video processors take them.

    A frame's place is its time, at a rate of 1: what a processor writes is then the time since the
    video's start, and the rate that it works out is that of these frames, however few of the
    video's they are.
    """
    from transformers.video_utils import VideoMetadata

    first, last = sample.times[0], sample.times[-1]
    gaps = len(sample.times) - 1
    spacing_s = (last - first) / gaps if gaps and last > first else 1.0
    return VideoMetadata(
        total_num_frames=spacing_s * len(sample.times), fps=1.0, frames_indices=list(sample.times)
    )
