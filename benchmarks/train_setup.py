"""What the training benchmark trains: Qwen2-VL shapes, synthetic clips, and a run folder."""

import hashlib
import itertools
import json
import os
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from spark_trainer.config import Run
from spark_trainer.data import joining
from spark_trainer.data import manifest as written
from spark_trainer.data.layout import Layout, frame_name
from spark_trainer.runs import configured
from spark_trainer.system import log
from spark_trainer.train import encode, launch
from spark_trainer.train.topology import Topology

SPECIALS = {
    "pad_token": "<|endoftext|>",
    "start": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>",
    "image": "<|image_pad|>",
    "video": "<|video_pad|>",
}
SYSTEM = "You are a helpful assistant."
TEMPLATE = (  # Qwen2-VL's own, without numbered images
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}"
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}<|im_end|>\n"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NUM_WORDS = 2000
WARM = 4  # steps that are left out of every figure


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen2-VL model."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    vision_depth: int
    vision_dim: int
    vision_heads: int


SMALL = Shape(256, 1024, 4, 4, 2, 2048, True, 2, 128, 4)


def word(number: int) -> str:
    """Return a word that is one token."""
    return f"word{number}"


def text(draw: random.Random, length: int) -> str:
    """So many random words, each about eight characters."""
    return " ".join(word(draw.randrange(NUM_WORDS)) for _ in range(length))


def checkpoint(
    folder: Path,
    shape: Shape,
    side: int,
    dtype: torch.dtype | None = torch.float32,
    device: str = "cpu",
) -> Path:
    """Write a checkpoint that sees every image as about `side` × `side` pixels.

    Its weights are random, of `dtype`, made on `device`; without a `dtype` there are none.
    """
    words = _tokenizer()
    head_eighth = shape.hidden // shape.heads // 8
    config = transformers.Qwen2VLConfig(
        vision_config={
            "depth": shape.vision_depth,
            "embed_dim": shape.vision_dim,
            "num_heads": shape.vision_heads,
            "hidden_size": shape.hidden,
        },
        text_config={
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [head_eighth, 3 * head_eighth // 2, 3 * head_eighth // 2],
            },
            "bos_token_id": None,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
        },
        image_token_id=words.convert_tokens_to_ids(SPECIALS["image"]),
        video_token_id=words.convert_tokens_to_ids(SPECIALS["video"]),
        vision_start_token_id=words.convert_tokens_to_ids(SPECIALS["vision_start"]),
        vision_end_token_id=words.convert_tokens_to_ids(SPECIALS["vision_end"]),
        tie_word_embeddings=shape.tied,
    )
    size = {"shortest_edge": side * side, "longest_edge": side * side}
    transformers.Qwen2VLProcessor(
        transformers.Qwen2VLImageProcessor(size=size),
        words,
        transformers.Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=True),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    if dtype is None:
        config.save_pretrained(folder)
        return folder
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.Qwen2VLForConditionalGeneration._from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()  # the training process wants it
    return folder


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Build a tokenizer in which a word is a token, so that a text's length is known."""
    known = [*SPECIALS.values(), "<unk>", "system", "user", "assistant", *SYSTEM.split()]
    known += ["Describe", "the", "video.", *map(word, range(NUM_WORDS))]
    vocabulary = {text: number for number, text in enumerate(known)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = {name: text for name, text in SPECIALS.items() if name.endswith("_token")}
    others = [text for text in SPECIALS.values() if text not in roles.values()]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, extra_special_tokens=others, unk_token="<unk>", **roles
    )


def answers(count: int, shortest: int, longest: int) -> list[str]:
    """Texts whose lengths in words are spread evenly on a logarithmic scale."""
    draw = random.Random(0)
    ratio = longest / shortest
    lengths = [round(shortest * ratio ** draw.random()) for _ in range(count)]
    return [text(draw, length) for length in lengths]


def manifest(
    folder: Path,
    texts: Iterable[str],
    num_frames: int,
    size: tuple[int, int],
    beside: Sequence[str] = (),
) -> Path:
    """Clips with frames of `size` pixels, each with its own; what is beside them looks the same."""
    noise = np.random.default_rng(0)
    entries = []
    for number, said in enumerate(texts):
        video = hashlib.sha256(str(number).encode()).hexdigest()
        frames = folder / video / "frames"
        frames.mkdir(parents=True)
        for frame in range(1, num_frames + 1):
            coarse = noise.integers(0, 255, (18, 32, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize(size)
            image.save(frames / frame_name(frame), quality=90)
        times = [float(frame) for frame in range(num_frames)]
        meta = {"caption": said, "frame_times": times, "duration": float(num_frames)}
        for name in beside:
            (folder / video / name).symlink_to("frames")
        meta |= {f"{name}_dir": f"{video}/{name}" for name in beside}
        entries.append({"id": video, "frames_dir": f"{video}/frames", "audio": None, "meta": meta})
    entries.sort(key=lambda entry: str(entry["id"]))
    path = Layout(folder).manifest
    written.write(path, entries)
    return path


def run_folder(name: str, base: Path, device: str = "cpu", **settings: Any) -> Path:
    """Write what `launch` leaves for the training process, without starting it.

    Neither evaluation nor checkpoint comes before the last step.
    """
    os.environ[log.LOG_VARIABLE] = str(base / "spark_trainer.log")
    common = {
        "output_dir": str(base / "runs"),
        "split": {"validation": 0.03},
        "eval_steps": 10**6,
        "checkpoint_steps": 10**6,
        "num_samples": 0,
        "num_workers": 1,
        "allow_cpu": True,
        "min_gpus": 0,
        "gpus": int(device == "cuda"),
    }
    made = configured.spec_on_manifest(name, Run(**(common | settings)), Layout(base / "state"))
    made.folder.path.mkdir(parents=True)
    source = Path(made.settings.manifest_path or "")
    joining.collect(source, None, made.folder.manifest, made.folder.rejected)
    if made.settings.encoded_ahead:
        encode.run(made, source, granted_gpus=made.settings.gpus, threads=os.cpu_count() or 1)
    launch._describe(made, Topology(1, 1, device), None)
    return made.folder.path


@dataclass(frozen=True)
class Steps:
    """Steady-state steps of a run: seconds and tokens of each, and what it wrote about them."""

    seconds: list[float]
    tokens: list[float]
    metrics: list[dict[str, float]]

    @property
    def tokens_per_s(self) -> float:
        return sum(self.tokens) / sum(self.seconds)

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


def steps(folder: Path) -> Steps:
    """Read a finished run.

    A step lasts from one event of the loss to the next, so all that the loop does is in it; the
    metrics' own rates leave out what writes them.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    at = [event.wall_time for event in events.Scalars("loss")]
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    found = [line for line in lines if "loss" in line]
    assert len(found) == len(at), (len(found), len(at))
    run = json.loads((folder / "run.json").read_text())["settings"]
    samples = run["batch_size"] * run["gradient_accumulation_steps"]
    tokens = [line.get("tokens_per_s", 0.0) * samples / line["samples_per_s"] for line in found]
    seconds = [after - before for before, after in itertools.pairwise(at)]
    return Steps(seconds[WARM - 1 :], tokens[WARM:], found[WARM:])
