"""What the chat families show the model and what they teach it, token by token."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers.video_utils import VideoMetadata

from spark_trainer import families
from spark_trainer.families.kinds import padding
from spark_trainer.families.kinds.batch import IGNORED
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.qwen2_vl import Qwen2VL
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
    loaded = family.load(checkpoint, LoadOptions())
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
    loaded = family.load(checkpoint, LoadOptions())
    mixed = [clip(0, "a dog", frames=frames), clip(1, "no tag")]
    encoded = [family.encode(loaded, sample, 4096) for sample in mixed]
    for group in padding.groups(encoded):
        assert family.loss(loaded, loaded.model, family.collate(loaded, group, False)).isfinite()


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return Qwen2VL().load(str(tiny.qwen3_vl(tmp_path_factory.mktemp("qwen3"))), LoadOptions())


@pytest.mark.parametrize("fps", [1, 24, 25, 30, 30000 / 1001, 60])
@pytest.mark.parametrize("numbers", [(0, 7, 14, 21), (50, 75, 100), (1234, 5000), (99,)], ids=str)
def test_the_times_shown_are_those_since_the_videos_start(
    fps: float, numbers: tuple[int, ...], qwen3: Loaded
) -> None:
    """As upstream's own processor shows them of the video's metadata."""
    frames = clip(0, "a dog", prompt=ASK, frames=len(numbers))
    sample = replace(frames, times=tuple(number / fps for number in numbers))
    ids = Qwen2VL().encode(qwen3, sample, 4096).tokens["input_ids"]
    ours = qwen3.processor.tokenizer.decode(ids)
    times = 1 if len(numbers) > 1 else 2  # a patch takes two frames
    asked = [{"type": "video"}, {"type": "text", "text": ASK}]
    prompt = qwen3.processor.apply_chat_template(
        [{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=False
    )
    told = {"fps": fps, "frames_indices": list(numbers) * times, "total_num_frames": 9000}
    theirs = qwen3.processor(
        text=[prompt],
        videos=[list(frames.images) * times],
        video_metadata=[VideoMetadata(**told)],
        do_sample_frames=False,
    )
    assert ours == qwen3.processor.tokenizer.decode(theirs["input_ids"][0]) + "a dog<|im_end|>"


def test_seconds_between_frames_do_not_follow_from_where_a_clip_starts(tmp_path: Path) -> None:
    """Qwen2.5 is told the seconds that a patch of two frames takes."""
    checkpoint = str(tiny.qwen2_5_vl(tmp_path))
    loaded = Qwen2VL().load(checkpoint, LoadOptions())
    for start in (0.0, 90.0):
        times = tuple(start + 1.5 * frame for frame in range(4))
        seen = Qwen2VL().encode(loaded, replace(clip(0, "a dog"), times=times), 4096).vision
        assert seen["second_per_grid_ts"].tolist() == pytest.approx([3.0])
