"""The model card beside the weights: what the model is made of, readable by people and by hubs."""

from pathlib import Path
from typing import Any

import yaml

from spark_trainer.config import Run


def write(folder: Path, run: Run, lineage: dict[str, Any], summary: dict[str, Any]) -> None:
    """Write README.md with the base, the data's digest, the losses, and the code."""
    base = "random weights" if run.from_scratch else run.model_name
    head = {"library_name": "transformers", "pipeline_tag": "image-to-text"}
    if not run.from_scratch:
        head["base_model"] = run.model_name
    rows = [
        ("base", base),
        ("licence of the base", "see the base model" if not run.from_scratch else "none"),
        ("data (SHA-256 of manifest.jsonl)", lineage["manifest_sha256"]),
        ("videos trained on", summary["training_videos"]),
        ("videos held out", summary["validation_videos"]),
        ("held-out loss", f"{summary['first_loss']:.4f} before, {summary['last_loss']:.4f} after"),
        ("updates", summary["steps"]),
        ("code", f"SparkTrainer {lineage['spark_trainer']}, {lineage['code']}"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    text = (
        f"---\n{yaml.safe_dump(head)}---\n\n# {lineage['run']}\n\n"
        f"Trained with SparkTrainer. `lineage.json` beside the run names every clip.\n\n"
        f"| what | value |\n|---|---|\n{table}\n"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
