"""Stands in for the training process: notes the GPUs that each process sees, trains nothing.

Where TOGETHER tells how many runs are to be at work at once, the first ones wait for each other.
"""

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
    begin, patience = time.time(), time.monotonic() + 120
    (folder / "begun").touch()
    together = int(os.environ.get("TOGETHER", "1"))
    while len(list(folder.parent.glob("*/begun"))) < together and time.monotonic() < patience:
        time.sleep(0.05)
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
