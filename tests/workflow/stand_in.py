"""Stands in for the training process: notes the GPUs that each process sees, trains nothing."""

import json
import os
import sys
import time
from pathlib import Path

from spark_trainer.system import gpu

SECONDS = 3.0


def main(folder: Path) -> None:
    gpu.hold()
    rank = int(os.environ.get("RANK", "0"))
    begin = time.time()
    time.sleep(SECONDS)
    devices = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    seen = {"devices": devices, "begin": begin, "end": time.time()}
    (folder / f"seen.{rank}.json").write_text(json.dumps(seen), encoding="utf-8")
    if rank == 0:
        summary = {"first_loss": 0.0, "last_loss": 0.0, "steps": 0, "device": "nothing"}
        (folder / "samples").mkdir()
        (folder / "samples/step_0.json").write_text("[]", encoding="utf-8")
        (folder / "trained.json").write_text(json.dumps(summary), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
