"""The card says what the model is made of, and under which licence its base is."""

from pathlib import Path

import pytest
import yaml

from spark_trainer.config import Run
from spark_trainer.train import card

LINEAGE = {"run": "mine", "manifest_sha256": "ab" * 32, "spark_trainer": "0.1", "code": "c0de"}
SUMMARY = {
    "training_videos": 9,
    "validation_videos": 2,
    "steps": 30,
    "scores": {"bleu": 12.345},
    "first_loss": 3.0,
    "last_loss": 1.25,
    "best_loss": 1.0,
    "best_step": 20,
}


@pytest.mark.parametrize(
    ("front", "terms"), [("---\nlicense: apache-2.0\n---\n", "apache-2.0"), (None, "unknown")]
)
def test_names_base_licence_data_and_scores(tmp_path: Path, front: str | None, terms: str) -> None:
    base = tmp_path / "base"
    base.mkdir()
    if front:
        (base / "README.md").write_text(front + "# base\n")
    run = Run(model_name=str(base), finetune="lora", final="best", ema_decay=0.9)
    card.write(tmp_path, run, LINEAGE, SUMMARY)
    _, head, text = (tmp_path / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head).get("license", "unknown") == terms
    assert yaml.safe_load(head)["base_model"] == str(base)
    rows = dict(line.strip("| ").split(" | ") for line in text.splitlines() if " | " in line)
    assert rows["licence of the base"] == terms
    assert rows["data (SHA-256 of manifest.jsonl)"] == "ab" * 32
    assert rows["held-out bleu"] == "12.35"
    assert rows["least held-out loss"] == "1.0000 at update 20"
    assert rows["weights"] == "the best, averaged"
    assert rows["learnt"] == "LoRA"


def test_random_weights_have_no_base(tmp_path: Path) -> None:
    card.write(tmp_path, Run(from_scratch=True), LINEAGE, SUMMARY)
    text = (tmp_path / "README.md").read_text()
    assert "base_model" not in text
    assert "| base | random weights |" in text
