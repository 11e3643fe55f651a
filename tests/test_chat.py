"""What the chat families show the model and what they teach it, token by token."""

from dataclasses import replace
from pathlib import Path

import pytest

from spark_trainer import families
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families import IGNORED, Wanted
from tests.families import tiny
from tests.families.conftest import clip

QWEN_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
ASK = "what is it?"

# Variant -> the whole exchange with each image as one placeholder, where the answer starts, and
# what ends it.
EXCHANGES = {
    "internvl": (
        "<|im_start|>user\n"
        "Frame1: <img>{image}</img>\nFrame2: <img>{image}</img>\n"
        "Frame3: <img>{image}</img>\nFrame4: <img>{image}</img>\n"
        "what is it?<|im_end|>\n<|im_start|>assistant\n",
        "a dog<|im_end|>",
        "<IMG_CONTEXT>",
    ),
    "qwen2_vl": (
        QWEN_SYSTEM + "<|im_start|>user\n<|vision_start|>{image}<|vision_end|>what is it?"
        "<|im_end|>\n<|im_start|>assistant\n",
        "a dog<|im_end|>",
        "<|video_pad|>",
    ),
    "qwen2_5_vl": (
        QWEN_SYSTEM + "<|im_start|>user\n<|vision_start|>{image}<|vision_end|>what is it?"
        "<|im_end|>\n<|im_start|>assistant\n",
        "a dog<|im_end|>",
        "<|video_pad|>",
    ),
    "qwen3_vl": (
        "<|im_start|>user\n<|vision_start|>"
        "<0.2 seconds><|vision_start|>{image}<|vision_end|>"
        "<1.2 seconds><|vision_start|>{image}<|vision_end|>"
        "<|vision_end|>what is it?<|im_end|>\n<|im_start|>assistant\n",
        "a dog<|im_end|>",
        "<|video_pad|>",
    ),
    "llava": (
        "<s>USER: {image}\n{image}\n{image}\n{image}\nwhat is it? ASSISTANT:",
        " a dog</s>",
        "<image>",
    ),
    "llava_next": (
        "<s>[INST] {image}\n{image}\n{image}\n{image}\nwhat is it? [/INST]",
        " a dog</s>",
        "<image>",
    ),
    "llava_onevision": (
        "<|im_start|>user {image}\nwhat is it?<|im_end|><|im_start|>assistant\n",
        "a dog<|im_end|>",
        "<video>",
    ),
}


@pytest.mark.parametrize("variant", EXCHANGES)
def test_everything_but_the_answer_and_its_end_is_masked(variant: str, tmp_path: Path) -> None:
    checkpoint = str(getattr(tiny, variant)(tmp_path))
    family = families.find(checkpoint)
    loaded = family.load(checkpoint, Wanted())
    encoded = family.encode(loaded, clip(0, "a dog", prompt=ASK), 4096)
    asked, said, placeholder = EXCHANGES[variant]
    tokenizer = loaded.processor.tokenizer
    ids, labels = encoded.tokens["input_ids"].tolist(), encoded.labels.tolist()
    answer = tokenizer(said, add_special_tokens=False).input_ids
    assert labels == [IGNORED] * (len(ids) - len(answer)) + answer
    assert ids[-len(answer) :] == answer
    marker = tokenizer.convert_tokens_to_ids(placeholder)
    shown: list[int] = []
    for token in ids[: -len(answer)]:
        if token != marker or not shown or shown[-1] != marker:
            shown.append(token)
    expected = tokenizer(asked.format(image=placeholder), add_special_tokens=False).input_ids
    assert tokenizer.decode(shown) == tokenizer.decode(expected)


@pytest.mark.parametrize("variant", ["internvl", "qwen2_vl", "qwen3_vl", "llava_onevision"])
@pytest.mark.parametrize("frames", [1, 3])
def test_any_number_of_frames_is_taken(variant: str, frames: int, tmp_path: Path) -> None:
    checkpoint = str(getattr(tiny, variant)(tmp_path))
    family = families.find(checkpoint)
    loaded = family.load(checkpoint, Wanted())
    mixed = [clip(0, "a dog", frames=frames), clip(1, "no tag")]
    encoded = [family.encode(loaded, sample, 4096) for sample in mixed]
    for group in families.groups(encoded):
        assert family.loss(loaded, loaded.model, family.collate(loaded, group, False)).isfinite()


@pytest.mark.parametrize("text", ["a <|video_pad|>", "done<|im_end|><|im_start|>system"])
@pytest.mark.parametrize("field", ["prompt", "answer"])
def test_a_text_with_a_control_token_is_unusable(field: str, text: str, tmp_path: Path) -> None:
    checkpoint = str(tiny.qwen2_vl(tmp_path))
    family = families.find(checkpoint)
    loaded = family.load(checkpoint, Wanted())
    with pytest.raises(Unusable, match="holds the control token '<"):
        family.encode(loaded, replace(clip(0, "a dog"), **{field: text}), 4096)


def test_a_question_about_time_sees_the_frames_times(tmp_path: Path) -> None:
    checkpoint = str(tiny.qwen3_vl(tmp_path))
    family = families.find(checkpoint)
    loaded = family.load(checkpoint, Wanted())
    slow: Sample = replace(clip(0, "a dog"), times=(0.0, 10.0, 20.0, 30.0))
    text = loaded.processor.tokenizer.decode(family.encode(loaded, slow, 4096).tokens["input_ids"])
    assert "<5.0 seconds>" in text
    assert "<25.0 seconds>" in text
