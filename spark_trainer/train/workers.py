"""How many processes read samples ahead of training, and whether it waits for them."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from accelerate import Accelerator

from spark_trainer.config import Run
from spark_trainer.families.kinds.reading import Reader, ReadResult
from spark_trainer.system import log
from spark_trainer.train import data
from spark_trainer.train.data import Ahead, DistributedBatchSampler

WARM = 2  # updates before those that are measured: libraries load, kernels are chosen
MEASURED = 8  # updates from which the number of workers follows
HEADROOM = 1.25  # over what reading takes in the mean: samples differ
JUDGED = 50  # updates over which the share of waiting is judged
MAX_WAIT_SHARE = 0.1  # of the time; the log names more


def reading(
    reader: Reader, sampler: DistributedBatchSampler, run: Run, accelerator: Accelerator
) -> "Reading":
    """Return what is read for the updates of this process, for ever."""
    pin = accelerator.device.type == "cuda"

    def opened(update: int, num_workers: int) -> Ahead:
        later = replace(sampler, start=sampler.start + update)
        return data.training(reader, later, num_workers, pin)

    samples = run.samples_per_update // accelerator.num_processes
    most = data.most_workers()
    main = accelerator.is_main_process
    return Reading(opened, run.num_workers, sampler.num_batches, samples, most, main)


def needed(read_s: float, trained_s: float, most: int) -> int:
    """Return how many workers read as fast as training goes on.

    Args:
        read_s: what the samples of an update take one worker.
        trained_s: what the update takes without waiting for them.
        most: workers that there may be.
    """
    return min(math.ceil(HEADROOM * read_s / max(trained_s, 1e-6)), most)


class _Pace(NamedTuple):
    """What an update took: seconds of training, and of waiting for its samples."""

    trained_s: float
    waited_s: float


@dataclass
class Reading(Iterator[ReadResult]):
    """What is read for the updates of one process; leaving it ends the workers.

    With `train.num_workers: auto` two workers begin. When some updates have shown what reading and
    training take, as many go on as suffice, from the next update on. What is read, and in which
    order, doesn't depend on their number.

    Attributes:
        opened: (update, workers) -> what is read from so many updates on by so many workers.
        num_workers: `train.num_workers`.
        num_calls: calls for samples in an update.
        num_samples: samples of this process in an update.
        most: workers that there may be.
        tells: say it where training waits for samples.
        clock: gives the time in seconds.
    """

    opened: Callable[[int, int], Ahead]
    num_workers: int | str
    num_calls: int
    num_samples: int
    most: int
    tells: bool
    clock: Callable[[], float] = time.perf_counter
    _calls: int = 0
    _began: float | None = None  # the update at hand
    _waited_s: float = 0.0  # in it
    _paces: list[_Pace] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tunes = not isinstance(self.num_workers, int)
        self._open(self.num_workers if isinstance(self.num_workers, int) else data.FIRST_WORKERS)

    def _open(self, count: int) -> None:
        """Read on with so many workers, from the update that begins now."""
        self._count, self._ahead = count, self.opened(self._calls // self.num_calls, count)
        self._paces.clear()

    def __next__(self) -> ReadResult:
        """Give the next; raises as `Ahead` does."""
        asked = self.clock()
        if self._calls % self.num_calls == 0:
            self._begin(asked)
        result = next(self._ahead)
        self._waited_s += self.clock() - asked
        self._calls += 1
        return result

    def _begin(self, now: float) -> None:
        """Note what the update before took, and draw the conclusions that are due."""
        if self._began is not None:
            self._paces.append(_Pace(now - self._began - self._waited_s, self._waited_s))
        self._began, self._waited_s = now, 0.0
        if self._tunes and len(self._paces) == WARM + MEASURED:
            self._tune()
        elif len(self._paces) == JUDGED:
            self._judge()

    def _tune(self) -> None:
        """Choose the number of workers by what was measured."""
        self._tunes = False
        read_s, cpu_s = self._sample_s()
        trained_s = statistics.median(pace.trained_s for pace in self._paces[WARM:])
        wanted = needed(read_s * self.num_samples, trained_s, self.most)
        count = max(data.FIRST_WORKERS, wanted)
        text = (
            "train.num_workers: %d workers, of at most %d: a sample takes one of them %.3g s "
            "(%.3g CPU-seconds), training on the %d of an update %.3g s"
        )
        figures = read_s, cpu_s, self.num_samples, trained_s
        log.logger.info(text, count, self.most, *figures)
        if count > self._count:
            self._ahead.__exit__(None, None, None)
            self._open(count)

    def _judge(self) -> None:
        """Say it, once, if training waits for samples."""
        paces = self._paces[WARM:]
        self._paces.clear()
        waited_s = sum(pace.waited_s for pace in paces)
        share = waited_s / (waited_s + sum(pace.trained_s for pace in paces))
        if share <= MAX_WAIT_SHARE or not self.tells:
            return
        self.tells = False
        advice = f"raise train.num_workers, to {self.most} at most"
        if self._count >= self.most:
            advice = "give it more CPUs, or samples that cost less"
        text = (
            "reading is the bottleneck: %.0f %% of the time goes into waiting for samples, of "
            "%.3g CPU-seconds each, which %d workers read; %s (docs/training.md#reading)"
        )
        log.logger.warning(text, 100 * share, self._sample_s()[1], self._count, advice)

    def _sample_s(self) -> tuple[float, float]:
        """Return what a sample takes a worker: seconds, and CPU-seconds."""
        cost = self._ahead.cost
        samples = cost.calls * self.num_samples / self.num_calls
        return cost.read_s / samples, cost.cpu_s / samples

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        """End the workers; raises as `Ahead` does."""
        self._ahead.__exit__(*error)
