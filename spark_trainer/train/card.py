"""The model card beside the weights: what the model is made of, readable by people and by hubs."""

from pathlib import Path
from typing import Any

import yaml

from spark_trainer.config import Run

UNKNOWN = "unknown"
METHODS = {"full": "all trainable weights", "lora": "LoRA", "qlora": "QLoRA"}


def write(
    folder: Path,
    run: Run,
    lineage: dict[str, Any],
    summary: dict[str, Any],
    library: str = "transformers",
    tag: str = "image-to-text",
    use: str = "",
) -> None:
    """Write README.md with the base and its licence, the data's digest, the scores, the code.

    Args:
        folder: where it goes.
        run: the settings.
        lineage: what the run is made of.
        summary: what came out.
        library: whose `from_pretrained` loads it.
        tag: what the hub calls such a model.
        use: the lines of Python that load it, where one call does not.
    """
    base = "random weights" if run.from_scratch else run.model_name
    head = {"library_name": library, "pipeline_tag": tag}
    terms = "none" if run.from_scratch else licence(run.model_name)
    if not run.from_scratch:
        head["base_model"] = run.model_name
    if terms not in ("none", UNKNOWN):
        head["license"] = terms
    rows = [
        ("base", base),
        ("licence of the base", terms),
        ("learnt", METHODS[run.finetune]),
        ("data (SHA-256 of manifest.jsonl)", lineage["manifest_sha256"]),
        ("videos trained on", summary["training_videos"]),
        ("videos held out", summary["validation_videos"]),
        *_losses(summary),
        *((f"held-out {name}", f"{value:.4g}") for name, value in summary["scores"].items()),
        ("updates", summary["steps"]),
        ("weights", f"the {run.final}" + (", averaged" if run.ema_decay else "")),
        ("code", f"SparkTrainer {lineage['spark_trainer']}, {lineage['code']}"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    text = (
        f"---\n{yaml.safe_dump(head)}---\n\n# {lineage['run']}\n\n"
        f"Trained with SparkTrainer. `lineage.json` beside the run names every clip.\n\n"
        f"| what | value |\n|---|---|\n{table}\n" + (f"\n```python\n{use}\n```\n" if use else "")
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _losses(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What the held-out part says, where there is one."""
    if summary["first_loss"] is None:
        return []
    return [
        ("held-out loss", f"{summary['first_loss']:.4f} before, {summary['last_loss']:.4f} after"),
        ("least held-out loss", f"{summary['best_loss']:.4f} at update {summary['best_step']}"),
    ]


def licence(model_name: str) -> str:
    """What a checkpoint's own card names as its licence, `unknown` where there is no card."""
    from huggingface_hub import ModelCard, hf_hub_download

    try:
        if Path(model_name).is_dir():
            path = Path(model_name) / "README.md"
        else:
            path = Path(hf_hub_download(model_name, "README.md"))
        return str(ModelCard.load(path).data.get("license") or UNKNOWN)
    except (OSError, ValueError):  # no card, no network, or a card that is no card
        return UNKNOWN
