"""A tiny checkpoint for each family, random weights from upstream's own classes.

The function is called like the family's file: a new family adds its own here. Florence-2 is no
family; captioners read it. Dropout is upstream's own: 0.1 in BLIP-2's Q-Former, OPT and T5.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

from spark_trainer.speech import formats

from . import tokenizers

ROOT = Path(__file__).parent.parent.parent
SIDE = 28
SQUARE = {"height": SIDE, "width": SIDE}
PINPOINTS = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE]]
PATCHES = {  # 4 to 9 tokens an image or a pair of frames
    "patch_size": 7,
    "size": {"shortest_edge": SIDE * SIDE, "longest_edge": (SIDE + 14) ** 2},
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
}


def blip(folder: Path) -> Path:
    """It is the demo's configuration with weights."""
    source = ROOT / "config/demo/blip-small"
    config = transformers.BlipConfig.from_pretrained(source)
    processor = transformers.AutoProcessor.from_pretrained(source)
    return _save(folder, _model("BlipForConditionalGeneration", config), processor)


def blip2(folder: Path) -> Path:
    """The OPT variant ends a text with a newline, as blip2-opt-2.7b does."""
    words = tokenizers.opt()
    text = transformers.OPTConfig(
        vocab_size=len(words),
        hidden_size=64,
        ffn_dim=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.encode("\n", add_special_tokens=False)[0],
        pad_token_id=words.pad_token_id,
    )
    return _blip2(folder, words, text)


def blip2_t5(folder: Path) -> Path:
    """The T5 variant's encoder reads image and prompt, its decoder writes the text."""
    words = tokenizers.t5()
    text = transformers.T5Config(
        vocab_size=len(words),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=words.pad_token_id,
        bos_token_id=words.eos_token_id,  # as in blip2-flan-t5-xl; `generate` without text needs it
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return _blip2(folder, words, text)


def _blip2(folder: Path, words: Any, text: Any) -> Path:
    """Both variants share the vision tower, the Q-Former and the processor."""
    config = transformers.Blip2Config(
        vision_config={**VISION, "patch_size": 14, "initializer_range": 0.02},
        qformer_config={
            "vocab_size": len(words),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        text_config=text,
        num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    model = _model("Blip2ForConditionalGeneration", config)
    torch.nn.init.normal_(model.query_tokens)  # upstream starts them at 0, all alike
    processor = transformers.Blip2Processor(
        transformers.BlipImageProcessor(size=SQUARE), words, num_query_tokens=4
    )
    return _save(folder, model, processor)


def internvl(folder: Path) -> Path:
    """InternVL3 has 4 tokens a tile: up to 4 tiles and a thumbnail an image, one tile a frame."""
    words = tokenizers.chatml(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = transformers.InternVLConfig(
        vision_config={**VISION, "patch_size": 7},
        text_config=transformers.Qwen2Config(**_language(words)),
        image_token_id=words.context_image_token_id,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size=SQUARE, max_patches=4),
        words,
        transformers.InternVLVideoProcessor(size=SQUARE),
        image_seq_length=4,
        chat_template=tokenizers.chat("<IMG_CONTEXT>\n", "<video>\n"),
    )
    return _save(folder, _model("InternVLForConditionalGeneration", config), processor)


def qwen2_vl(folder: Path) -> Path:
    """Qwen2-VL ties the output to the input embedding, as the 2B checkpoint does."""
    return _qwen(
        folder,
        "Qwen2VL",
        vision={"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2},
        mrope=[2, 3, 3],
        video=transformers.Qwen2VLVideoProcessor(**PATCHES, cap_pixels_per_frame=True),
        system="You are a helpful assistant.",
        tie_word_embeddings=True,
    )


def qwen2_5_vl(folder: Path) -> Path:
    """Qwen2.5-VL attends to the image in windows and counts a video's positions in seconds."""
    window = {"window_size": 28, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    return _qwen(
        folder,
        "Qwen2_5_VL",
        vision={"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, **window},
        mrope=[2, 3, 3],
        video=transformers.Qwen2VLVideoProcessor(**PATCHES, cap_pixels_per_frame=True),
        system="You are a helpful assistant.",
    )


def qwen3_vl(folder: Path) -> Path:
    """Qwen3-VL feeds vision to its first language layer too and writes times as text."""
    deep = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    whole = {"shortest_edge": SIDE * SIDE, "longest_edge": 8 * SIDE * SIDE}  # of all frames
    return _qwen(
        folder,
        "Qwen3VL",
        vision={"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, **deep},
        mrope=[4, 2, 2],
        video=transformers.Qwen3VLVideoProcessor(
            patch_size=7, size=whole, cap_pixels_per_frame=True
        ),
        head_dim=16,
    )


def _qwen(
    folder: Path,
    name: str,
    *,
    vision: dict[str, Any],
    mrope: list[int],
    video: Any,
    system: str = "",
    tie_word_embeddings: bool = False,
    **text: Any,
) -> Path:
    """The three share their tokens and patches of 7 pixels, 2×2 of which make one token."""
    words = tokenizers.chatml(
        "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
    )
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": mrope}
    config = getattr(transformers, f"{name}Config")(
        vision_config={"depth": 2, "num_heads": 4, "patch_size": 7, **vision},
        text_config=_language(words, rope_parameters=rope, **text),
        image_token_id=words.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=words.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=words.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=words.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=tie_word_embeddings,
    )
    template = tokenizers.chat(
        "<|vision_start|><|image_pad|><|vision_end|>",
        "<|vision_start|><|video_pad|><|vision_end|>",
        system,
    )
    processor = getattr(transformers, f"{name}Processor")(
        transformers.Qwen2VLImageProcessor(**PATCHES), words, video, chat_template=template
    )
    return _save(folder, _model(f"{name}ForConditionalGeneration", config), processor)


def florence2(folder: Path) -> Path:
    """Florence-2 has 16 tokens an image and one for their mean; BART reads and writes the text."""
    words = tokenizers.bart()
    stages = {"depths": (1, 1), "patch_size": (7, 3), "patch_stride": (4, 2)}
    config = transformers.Florence2Config(
        vision_config={
            **stages,
            "patch_padding": (3, 1),
            "patch_prenorm": (False, True),
            "embed_dim": (16, 32),
            "num_heads": (2, 4),
            "num_groups": (2, 4),
            "window_size": 4,
            "projection_dim": 64,
        },
        text_config=transformers.BartConfig(
            vocab_size=len(words),
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
            decoder_start_token_id=words.eos_token_id,
            forced_bos_token_id=words.bos_token_id,
            forced_eos_token_id=words.eos_token_id,
        ),
        image_token_id=words.image_token_id,
    )
    processor = transformers.Florence2Processor(
        transformers.CLIPImageProcessor(
            size=SQUARE, crop_size=SQUARE, do_center_crop=False, image_seq_length=17
        ),
        words,
        post_processor_config={"pure_text": {}},
    )
    return _save(folder, _model("Florence2ForConditionalGeneration", config), processor)


def llava(folder: Path) -> Path:
    """LLaVA 1.5 has 4 tokens an image and no video."""
    words = tokenizers.llama()
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION, patch_size=14),
        text_config=transformers.LlamaConfig(**_language(words, num_key_value_heads=4)),
        image_token_index=words.image_token_id,
        image_seq_length=4,
    )
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE),
        words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizers.LLAVA,
    )
    return _save(folder, _model("LlavaForConditionalGeneration", config), processor)


def llava_next(folder: Path) -> Path:
    """LLaVA-NeXT on Mistral sees an image whole and as one tile or two, and no video."""
    words = tokenizers.llama()
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION, patch_size=14),
        text_config=transformers.MistralConfig(**_language(words, sliding_window=None)),
        image_token_index=words.image_token_id,
        image_seq_length=4,
        image_grid_pinpoints=PINPOINTS,
    )
    processor = transformers.LlavaNextProcessor(
        transformers.LlavaNextImageProcessor(
            size={"shortest_edge": SIDE}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS
        ),
        words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizers.LLAVA_NEXT,
    )
    return _save(folder, _model("LlavaNextForConditionalGeneration", config), processor)


def llava_onevision(folder: Path) -> Path:
    """LLaVA-OneVision has 16 tokens a tile and 4 a video's frame."""
    words = tokenizers.chatml(image_token="<image>", video_token="<video>")
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(
            **VISION, patch_size=7, vision_use_head=False
        ),
        text_config=transformers.Qwen2Config(**_language(words)),
        image_token_index=words.image_token_id,
        video_token_index=words.video_token_id,
        image_grid_pinpoints=PINPOINTS,
    )
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=PINPOINTS),
        words,
        transformers.LlavaOnevisionVideoProcessor(size=SQUARE),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=tokenizers.LLAVA_ONEVISION,
    )
    return _save(folder, _model("LlavaOnevisionForConditionalGeneration", config), processor)


def whisper(folder: Path, mels: int = 80) -> Path:
    """A multilingual Whisper; of its own sizes only those of the vocabulary and of sound stand."""
    config = transformers.WhisperConfig(
        vocab_size=51865,
        num_mel_bins=mels,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=1,
        decoder_attention_heads=1,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        begin_suppress_tokens=[220, 50257],
        suppress_tokens=None,
    )
    model = _model("WhisperForConditionalGeneration", config)
    return _save(folder, model, formats.processor(config.to_dict()))


def dropping(checkpoint: Path, folder: Path, share: float) -> Path:
    """A copy with this dropout wherever the configuration names one; 0 where draws would differ."""
    shutil.copytree(checkpoint, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(_dropping(json.loads(path.read_text()), share)))
    return folder


def _dropping(config: dict[str, Any], share: float) -> dict[str, Any]:
    found = dict(config)
    for key, value in config.items():
        if isinstance(value, dict):
            found[key] = _dropping(value, share)
        elif "dropout" in key:
            found[key] = share
    return found


def _language(words: Any, **more: Any) -> dict[str, Any]:
    """Every language model's configuration but OPT's and T5's knows these fields."""
    return {
        "vocab_size": len(words),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
        **more,
    }


def _model(name: str, config: Any) -> Any:
    """The random weights are the same at every call."""
    torch.manual_seed(0)
    return getattr(transformers, name)(config)


def _save(folder: Path, model: Any, processor: Any) -> Path:
    """The folder holds what `from_pretrained` needs."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
