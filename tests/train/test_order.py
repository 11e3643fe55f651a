"""What names a run folder: data and settings that decide weights, nothing else."""

from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import ConfigError
from spark_trainer.train import order


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"num_workers": 4}, True),
        ({"output_dir": "elsewhere"}, True),
        ({"learning_rate": 2e-3}, False),
        ({"split": {"validation": 0.25, "seed": 1}}, False),
    ],
    ids=str,
)
def test_seal_follows_what_decides_the_weights(
    make: Any, settings: dict[str, Any], same: bool
) -> None:
    assert (make().seal == make(**settings).seal) is same


def test_seal_follows_the_data_and_the_checkpoint(
    make: Any, manifest: Path, checkpoint: Path
) -> None:
    before = make().seal
    manifest.write_text(manifest.read_text().replace("beagle", "lamp"))
    assert make().seal != before


def test_an_order_survives_its_file(make: Any, tmp_path: Path) -> None:
    made = make()
    assert order.read(order.write(tmp_path, made)) == made


def test_a_missing_manifest_names_the_key(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"train\.manifest_path: no such file: nowhere\.jsonl"):
        make(manifest_path="nowhere.jsonl")
