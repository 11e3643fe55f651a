"""What a training process sees of its place; rank 0 writes it down for all.

`python -m tests.train.rank FILE`, started as the training processes are.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist

from spark_trainer.train.strategies.base import join_process_group


def main() -> None:
    join_process_group("gloo")
    local = int(os.environ["LOCAL_RANK"])
    seen: list[Any] = [None] * dist.get_world_size()
    devices = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    dist.all_gather_object(seen, {"rank": dist.get_rank(), "device": devices[local]})
    if dist.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(seen))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
