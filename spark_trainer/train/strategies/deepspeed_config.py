"""DeepSpeed's JSON file: what may stand in it, and what the run puts there.

Light on purpose: the Snakefile reads this module, so that a wrong file costs nothing.
"""

import json
from pathlib import Path
from typing import Any

from spark_trainer.config import ConfigError, Run
from spark_trainer.system import origin

AUTO = "auto"
STAGES = (1, 2, 3)

# What may stand in the file beside what the run decides; anything else could change results, such
# as an optimizer or a schedule of DeepSpeed's own.
FREE = {
    "aio",
    "comms_logger",
    "memory_breakdown",
    "steps_per_print",
    "wall_clock_breakdown",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
    "zero_optimization",
}


def read(run: Run, key: str = "train") -> dict[str, Any]:
    """Read the file of a run that uses DeepSpeed, and check it.

    A name such as `config/deepspeed_zero2.json` is the shipped file where there is no other.

    Args:
        run: the settings.
        key: where they stand in the configuration.

    Raises:
        ConfigError: it can't be read, holds no JSON, no ZeRO, or contradicts the run; the message
            names the key in the file.
    """
    path = Path(run.deepspeed_config or "")
    name = f"{key}.deepspeed_config: {path}"
    try:
        values = json.loads(origin.shipped(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{key}.deepspeed_config: no such file: {path}") from None
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{name}: expected JSON ({error})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: expected a JSON object")
    stage = _at(values, "zero_optimization.stage")
    if stage not in STAGES:
        raise ConfigError(f"{name}: zero_optimization.stage: expected 1, 2 or 3 (got {stage!r})")
    decided = _decided(run)
    for dotted, allowed in decided.items():
        given = _at(values, dotted)
        if given not in (None, AUTO, allowed):
            text = f"{name}: {dotted}: expected {AUTO} or {json.dumps(allowed)}, as the run says"
            raise ConfigError(f"{text} (got {json.dumps(given)})")
    device = _at(values, "zero_optimization.offload_param.device")
    if device == "nvme" and run.model_type == "rft" and run.rft.beta and run.finetune == "full":
        raise ConfigError(
            f"{name}: zero_optimization.offload_param.device: expected cpu or none with rft.beta "
            "and finetune: full, which keep a copy of the weights (got nvme)"
        )
    known = FREE | {dotted.partition(".")[0] for dotted in decided}
    if unknown := sorted(values.keys() - known):
        raise ConfigError(
            f"{name}: {unknown[0]}: expected none, the run decides it; "
            f"these may be there: {', '.join(sorted(known))}"
        )
    return values


def _decided(run: Run) -> dict[str, Any]:
    """Return what the run decides, by its place in the file."""
    return {
        "train_batch_size": run.samples_per_update,
        "train_micro_batch_size_per_gpu": run.batch_size,
        "gradient_accumulation_steps": run.gradient_accumulation_steps,
        "gradient_clipping": run.max_grad_norm,
        "bf16.enabled": run.mixed_precision == "bf16",
        "fp16.enabled": run.mixed_precision == "fp16",
    }


def _at(values: dict[str, Any], dotted: str) -> Any:
    """Return the value at a path such as `bf16.enabled`; None where there is none."""
    found: Any = values
    for part in dotted.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def filled(values: dict[str, Any], run: Run, processes: int) -> dict[str, Any]:
    """Return the file as DeepSpeed gets it.

    The loop accumulates by itself, because batches are weighed by their targets: for DeepSpeed
    there is one step of accumulation. The optimizer is PyTorch's AdamW also where it works on the
    CPU: the same numbers, fused and vectorised too, and nothing to compile, where DeepSpeed's own
    wants a compiler (and CUDA's, beside a GPU) at the first start.

    Args:
        values: what `read` returned.
        run: the settings.
        processes: how many there are on all nodes.
    """
    zero = {key: value for key, value in values["zero_optimization"].items() if value != AUTO}
    return values | {
        "train_batch_size": run.batch_size * processes,
        "train_micro_batch_size_per_gpu": run.batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": run.max_grad_norm,
        "bf16": values.get("bf16", {}) | {"enabled": run.mixed_precision == "bf16"},
        "fp16": values.get("fp16", {}) | {"enabled": run.mixed_precision == "fp16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
