"""A process of a run in which making a sample takes long, and waiting for others must not.

`python -m tests.train.in_turn FOLDER`, started as the training processes are.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds.generated import Generated
from spark_trainer.families.kinds.vision_language import VisionLanguage
from spark_trainer.train import setup
from spark_trainer.train.loop import Trainer

SAMPLE_S, TIMEOUT_S = 2.5, 8.0
NUM_SAMPLES = 4  # by one process alone they would take longer than the others wait

show = VisionLanguage.show


def slowly(self: Any, loaded: Any, model: Any, samples: Iterable[Sample], run: Any) -> Any:
    """As `show`."""

    def slow() -> Iterator[Sample]:
        for sample in samples:
            time.sleep(SAMPLE_S)
            yield sample

    made: Iterator[Generated] = show(self, loaded, model, slow(), run)
    return made


def main() -> None:
    start = setup.prepare(Path(sys.argv[1]))
    trainer = Trainer.build(start)
    torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=TIMEOUT_S))
    VisionLanguage.show = slowly  # type: ignore[method-assign]
    trainer.train()


if __name__ == "__main__":
    main()
