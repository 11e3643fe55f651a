"""How upstream documents writing a caption with each kind of checkpoint, in its own classes.

Nothing of ours is used here: what the captioners say is compared with these. Decoding is greedy or
a beam search, never sampling, whatever a checkpoint's generation_config.json asks for.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL.Image import Image

from tests.families import tiny

FRAMES_A_SECOND = 1.0  # a video's frames come without times; they are taken to be a second apart


@dataclass(frozen=True)
class Decoding:
    """How far and how widely to search."""

    max_new_tokens: int = 12
    num_beams: int = 1

    def arguments(self) -> dict[str, Any]:
        """Arguments of `generate`."""
        return {
            "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
            "do_sample": False,
        }


@dataclass(frozen=True)
class Said:
    """A caption, and the tokens that were generated for it; a prompt is in neither."""

    text: str
    ids: tuple[int, ...]


def blip(folder: Path, frames: Sequence[Image], prompt: str | None, decoding: Decoding) -> Said:
    """One image, no text.

    transformers/models/blip/modeling_blip.py, `BlipForConditionalGeneration.generate`, Examples.
    """
    assert prompt is None
    (image,) = frames
    processor, model = _load(folder, "BlipForConditionalGeneration")
    inputs = processor(images=image, return_tensors="pt")
    outputs = model.generate(**inputs, **decoding.arguments())
    text = processor.decode(outputs[0], skip_special_tokens=True)
    return Said(text.strip(), tuple(outputs[0].tolist()))


def blip2(folder: Path, frames: Sequence[Image], prompt: str | None, decoding: Decoding) -> Said:
    """One image, with or without a text that the answer follows.

    transformers/models/blip_2/modeling_blip_2.py, `Blip2ForConditionalGeneration.forward`,
    "Image captioning" and "Visual question answering". Where the language model is a decoder,
    `generate` puts the given tokens in front of the new ones, which upstream's page predates.
    """
    (image,) = frames
    processor, model = _load(folder, "Blip2ForConditionalGeneration")
    text = {} if prompt is None else {"text": prompt}
    inputs = processor(images=image, **text, return_tensors="pt")
    ids_BL = model.generate(**inputs, **decoding.arguments())
    if not model.config.text_config.is_encoder_decoder:
        # Without a text the given tokens are the image's and one that begins a text.
        given = model.config.num_query_tokens + 1 if prompt is None else inputs.input_ids.shape[1]
        ids_BL = ids_BL[:, given:]
    text = processor.batch_decode(ids_BL, skip_special_tokens=True)[0]
    return Said(text.strip(), tuple(ids_BL[0].tolist()))


def florence2(
    folder: Path, frames: Sequence[Image], prompt: str | None, decoding: Decoding
) -> Said:
    """One image and one of the tasks' names.

    docs/source/en/model_doc/florence2.md, "AutoModel": special tokens stay in the text until
    `post_process_generation`, which asks for the image's size as (width, height).
    """
    (image,) = frames
    assert prompt is not None
    processor, model = _load(folder, "Florence2ForConditionalGeneration")
    inputs = processor(text=prompt, images=image, return_tensors="pt")
    ids_BL = model.generate(**inputs, **decoding.arguments())
    text = processor.batch_decode(ids_BL, skip_special_tokens=False)[0]
    answer = processor.post_process_generation(text, task=prompt, image_size=image.size)
    return Said(answer[prompt].strip(), tuple(ids_BL[0].tolist()))


def internvl(folder: Path, frames: Sequence[Image], prompt: str | None, decoding: Decoding) -> Said:
    """A conversation about an image or a video.

    docs/source/en/model_doc/internvl.md, "Inference on a single image" and "Video input".
    """
    return _chat("InternVLForConditionalGeneration", folder, frames, prompt, decoding)


def qwen2_vl(folder: Path, frames: Sequence[Image], prompt: str | None, decoding: Decoding) -> Said:
    """A conversation about an image or a video.

    docs/source/en/model_doc/qwen2_vl.md, "Single Media inference", and
    transformers/models/qwen2_vl/modeling_qwen2_vl.py, `forward`, Example.
    """
    return _chat("Qwen2VLForConditionalGeneration", folder, frames, prompt, decoding)


def qwen2_5_vl(
    folder: Path, frames: Sequence[Image], prompt: str | None, decoding: Decoding
) -> Said:
    """As for Qwen2-VL; a frame's position is its second, so that times count.

    transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py, `forward`, Example.
    """
    return _chat("Qwen2_5_VLForConditionalGeneration", folder, frames, prompt, decoding)


def qwen3_vl(folder: Path, frames: Sequence[Image], prompt: str | None, decoding: Decoding) -> Said:
    """As for Qwen2-VL; each pair of frames has its time written in front of it.

    docs/source/en/model_doc/qwen3_vl.md. A video of one frame is refused by its processor
    ("t:1 must be larger than temporal_factor:2"): one frame is an image.
    """
    return _chat("Qwen3VLForConditionalGeneration", folder, frames, prompt, decoding)


def _chat(
    name: str, folder: Path, frames: Sequence[Image], prompt: str | None, decoding: Decoding
) -> Said:
    """One user's turn: what is seen, then the text; the answer begins behind the given tokens.

    A list of frames is a video that is sampled already: `do_sample_frames=False`, and what is
    known of their times as `video_metadata` (transformers/video_utils.py, `make_batched_metadata`;
    without it Qwen2.5-VL and Qwen3-VL take 24 frames a second).
    """
    assert prompt is not None
    processor, model = _load(folder, name)
    seen: dict[str, Any] = {"type": "image", "image": frames[0]}
    options: dict[str, Any] = {}
    if len(frames) > 1:
        seen = {"type": "video", "video": list(frames)}
        metadata = {
            "total_num_frames": len(frames),
            "fps": FRAMES_A_SECOND,
            "frames_indices": list(range(len(frames))),
        }
        options = {"do_sample_frames": False, "video_metadata": [metadata]}
    messages = [{"role": "user", "content": [seen, {"type": "text", "text": prompt}]}]
    inputs = processor.apply_chat_template(
        messages,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=options,
    )
    ids_BL = model.generate(**inputs, **decoding.arguments())
    new_BL = ids_BL[:, inputs["input_ids"].shape[1] :]
    text = processor.batch_decode(
        new_BL, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )[0]
    return Said(text.strip(), tuple(new_BL[0].tolist()))


@functools.lru_cache(maxsize=4)
def _load(folder: Path, name: str) -> tuple[Any, Any]:
    """The processor, and the model by its concrete class."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32)
    return processor, model.eval()


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint and the backend that reads it."""

    name: str
    backend: str
    recipe: Callable[[Path, Sequence[Image], str | None, Decoding], Said]
    prompts: tuple[str | None, ...]  # the first is the usual one
    sees_video: bool = False

    def make(self, folder: Path) -> Path:
        """A tiny checkpoint, its weights so wide that other pictures give other texts."""
        getattr(tiny, self.name)(folder)
        model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
        model.save_pretrained(folder)
        return folder


ASKED = ("Describe the video.", "Who is in it?")
KINDS = (
    Kind("blip", "blip", blip, (None,)),
    Kind("blip2", "blip2", blip2, (None, "Question: what is it? Answer:")),
    Kind("blip2_t5", "blip2", blip2, (None, "Question: what is it? Answer:")),
    Kind("florence2", "florence2", florence2, ("<CAPTION>", "<MORE_DETAILED_CAPTION>")),
    Kind("internvl", "internvl", internvl, ASKED, sees_video=True),
    Kind("qwen2_vl", "qwen2-vl", qwen2_vl, ASKED, sees_video=True),
    Kind("qwen2_5_vl", "qwen2-vl", qwen2_5_vl, ASKED, sees_video=True),
    Kind("qwen3_vl", "qwen2-vl", qwen3_vl, ASKED, sees_video=True),
)
