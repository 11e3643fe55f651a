"""Checking that the settings of a training run fit together."""

from typing import TYPE_CHECKING

from spark_trainer.config.dataset import Sampling
from spark_trainer.config.optimization import LARGEST_UPDATE
from spark_trainer.config.section import ConfigError

if TYPE_CHECKING:
    from spark_trainer.config.run import Run


def check(run: "Run") -> None:
    """Refuse settings that contradict each other.

    Raises:
        ConfigError: two do; the message names the key and what was expected.
    """
    if run.model_type == "rft":
        _check_rft(run)
    if run.samples_per_update > LARGEST_UPDATE:
        raise ConfigError(
            f"batch_size: {run.samples_per_update:,} samples of one update, with "
            f"gradient_accumulation_steps, gpus and nodes; expected at most {LARGEST_UPDATE:,}"
        )
    if run.kind == "diffusion":
        _check_diffusion(run)
    elif run.kind == "speech":
        _check_speech(run)
    elif run.clip.jpeg_decoding == "scaled" and not (run.clip.max_side_px or run.clip.sizes):
        raise ConfigError("clip.jpeg_decoding: expected full without max_side_px or sizes")
    if run.encode_vision:
        _check_encode_vision(run)
    if run.text.questions is not None and run.encoded_ahead:
        raise ConfigError("text.questions: expected none where something is encoded ahead")
    if run.packing_length is not None:
        _check_packing_length(run, run.packing_length)
    if run.from_scratch and run.finetune != "full":
        raise ConfigError(f"finetune: expected full, {run.finetune} adapts trained weights")
    if run.base_run is not None:
        _check_base_run(run)
    if not run.use_accelerate and run.gpus * run.nodes > 1:
        raise ConfigError("use_accelerate: expected true, one bare process uses one GPU")
    if run.sharded:
        _check_shards(run)
    if run.compile == "layers":
        _check_layers(run)
    if not run.holds_out:
        _check_nothing_held_out(run)


def _check_rft(run: "Run") -> None:
    """Refuse settings by which no answers can be drawn, scored or learnt."""
    rft = run.rft
    wrong = {
        "rft.reward_funcs: expected the name of a reward": not rft.reward_funcs,
        f"rft.max_completion_length: expected below max_length, {run.max_length},": (
            rft.max_completion_length >= run.max_length
        ),
        "global_batch_size: expected the number of prompts in an update": not run.global_batch_size,
        f"max_steps: expected a multiple of rft.num_iterations, {rft.num_iterations},": bool(
            run.max_steps and run.max_steps % rft.num_iterations
        ),
        "packing_length: expected none": run.packing_length is not None,
        "encode_vision: expected false": run.encode_vision,
        # Prompts whose references are alike would teach to say one thing.
        "bucketing: expected none or false": bool(run.bucketing),
        # A server is given whole weights, which one process then would have to gather.
        "use_deepspeed, fsdp: expected false with rft.vllm.server_url": bool(
            rft.vllm.server_url and (run.use_deepspeed or run.fsdp)
        ),
        # Answers are of all lengths, each of which would be compiled.
        "compile: expected false": bool(run.compile),
    }
    for text, found in wrong.items():
        if found:
            raise ConfigError(f"{text} with model_type: rft")


def _check_base_run(run: "Run") -> None:
    """Refuse what has to read weights before the run that trains them is finished."""
    wrong = {
        "base_run: expected none": run.kind == "diffusion",
        "from_scratch: expected false": run.from_scratch,
        "encode_vision: expected false": run.encode_vision,
    }
    for text, found in wrong.items():
        if found:
            beside = "for diffusion" if text.startswith("base_run") else "with base_run"
            raise ConfigError(f"{text} {beside}")


def _check_encode_vision(run: "Run") -> None:
    """Refuse to keep what a tower makes of frames where the next epoch shows others."""
    if run.kind != "vision_language":
        raise ConfigError(f"encode_vision: expected false for {run.model_type}")
    if run.from_scratch:
        raise ConfigError("encode_vision: expected false with from_scratch")
    if not run.clip.variants and (run.clip.sampling == "random" or run.clip.flip):
        raise ConfigError(
            "encode_vision: expected clip.variants with clip.sampling: random and with clip.flip, "
            "which show other frames in each epoch"
        )


def _check_packing_length(run: "Run", length: int) -> None:
    """Refuse rows that are not packed, or that the longest sample has no room in."""
    if not run.packing:
        raise ConfigError("packing_length: expected none without packing")
    if length < run.max_length:
        raise ConfigError(
            f"packing_length: expected at least max_length, {run.max_length} (got {length})"
        )


def _check_nothing_held_out(run: "Run") -> None:
    """Refuse settings that need a held-out loss."""
    if run.early_stopping:
        raise ConfigError("split.validation: expected above 0 with early_stopping")
    if run.final == "best":
        raise ConfigError("split.validation: expected above 0 with final: best")


def _check_layers(run: "Run") -> None:
    """Refuse settings that ask for single operations of a layer that is compiled."""
    if isinstance(run.recomputed, str):
        raise ConfigError(
            "gradient_checkpointing: expected auto, true, false or a number with compile: layers"
        )
    if run.finetune == "qlora":
        raise ConfigError("finetune: expected full or lora with compile: layers")


def _check_shards(run: "Run") -> None:
    """Refuse settings that don't work where each process holds only a part of the model."""
    name = "use_deepspeed" if run.use_deepspeed else "fsdp"
    if run.use_deepspeed and run.fsdp:
        raise ConfigError("fsdp: expected false with use_deepspeed, both do the same")
    if run.use_deepspeed and not run.deepspeed_config:
        raise ConfigError(
            "deepspeed_config: expected a JSON file with use_deepspeed, such as "
            "config/deepspeed_zero2.json"
        )
    # What gathers weights runs among a layer's operations, and not alike the second time.
    gathers = run.use_deepspeed or run.model_type == "diffusion"
    wrong = {
        "gradient_checkpointing: expected auto, true, false or a number": gathers
        and isinstance(run.recomputed, str),
        "use_accelerate: expected true": not run.use_accelerate,
        "ema_decay: expected none": run.ema_decay is not None,
        "finetune: expected full or lora": run.finetune == "qlora",
        "optimizer: expected adamw": run.optimizer != "adamw",
        "compile: expected false": run.use_deepspeed and bool(run.compile),
        "compile: expected false or layers": run.compile is True,
    }
    for text, found in wrong.items():
        if found:
            raise ConfigError(f"{text} with {name}")
    if run.fsdp and run.mixed_precision == "fp16":
        raise ConfigError("mixed_precision: expected bf16 or no with fsdp")


def _check_diffusion(run: "Run") -> None:
    if run.clip.fps is None and run.clip.stride is None:
        raise ConfigError("clip.fps, clip.stride: expected one of the two for diffusion")
    if run.clip.lengths[-1] < 2:
        raise ConfigError("clip.num_frames: expected 2 or more for diffusion")
    if run.packing:
        raise ConfigError("packing: expected false for diffusion")
    if run.attention != "auto":
        raise ConfigError("attention: expected auto for diffusion")


def _check_speech(run: "Run") -> None:
    """Refuse settings of frames and of prompts, which a speech model takes none of."""
    usual = Sampling()
    changed = [name for name, value in run.clip if value != getattr(usual, name)]
    wrong = {
        f"clip.{changed[0]}: expected none" if changed else "": bool(changed),
        "packing: expected false": run.packing,
        "finetune: expected full or lora": run.finetune == "qlora",
        "text.prompt: expected none": run.text.prompt is not None,
        "text.each: expected none": run.text.each is not None,
        "asr.export: expected [hf] with save: adapter": run.finetune == "lora"
        and run.save == "adapter"
        and run.asr.export != ("hf",),
    }
    for text, found in wrong.items():
        if found:
            raise ConfigError(f"{text} for asr")
