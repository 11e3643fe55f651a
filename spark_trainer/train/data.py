"""Batches for one process: which samples, decoded ahead by worker processes."""

import atexit
import multiprocessing
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from spark_trainer.config import Run
from spark_trainer.data.batches import batches, dealt
from spark_trainer.data.samples import Samples
from spark_trainer.errors import MachineError, SparkTrainerError
from spark_trainer.families.kinds.reading import Reader, ReadResult
from spark_trainer.system import environment

FIRST_WORKERS = 2  # of `train.num_workers: auto`, until it is known what reading takes
MAX_WORKERS = 16  # each holds the samples of two calls in shared memory


@dataclass(frozen=True)
class DistributedBatchSampler:
    """Numbers of this process's samples: each `world`-th of an update, `batch_size` at a time.

    Goes on for ever, from update `start` on. `balanced` deals an update out so that all batches of
    all processes have about as much to compute, instead of samples of one length.
    """

    samples: Samples
    update_size: int
    batch_size: int
    rank: int
    world: int
    seed: int
    bucketed: bool
    start: int
    balanced: bool = False

    @property
    def num_batches(self) -> int:
        """Calls for samples in an update."""
        return -(-self.update_size // self.world // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        lengths = self.samples.lengths()
        share = self._balanced if self.balanced else self._each_nth
        for numbers in batches(lengths, self.update_size, self.seed, self.bucketed, self.start):
            yield from share(numbers)

    def _each_nth(self, numbers: list[int]) -> Iterator[list[int]]:
        mine = numbers[self.rank :: self.world]
        for first in range(0, len(mine), self.batch_size):
            yield mine[first : first + self.batch_size]

    def _balanced(self, numbers: list[int]) -> Iterator[list[int]]:
        work = self.samples.work()
        each = [int(work[number % len(work)]) for number in numbers]
        calls = self.num_batches * self.world
        room = -(-len(numbers) // calls)
        for group in dealt(each, calls, room)[self.rank :: self.world]:
            yield [numbers[place] for place in group]


def sampler(
    samples: Samples, run: Run, accelerator: Accelerator, start: int
) -> DistributedBatchSampler:
    """Return the sampler of this process, from update `start` on."""
    size, place = run.samples_per_update, (accelerator.process_index, accelerator.num_processes)
    return DistributedBatchSampler(
        samples,
        size,
        run.samples_per_call,
        *place,
        run.seed,
        run.bucketed,
        start,
        balanced=run.packing_length is not None,
    )


class _Answer(NamedTuple):
    """What a call for samples gave, or the error that it met, and what it took in seconds."""

    read: ReadResult | Exception
    read_s: float
    cpu_s: float


@dataclass
class Cost:
    """What calls for samples took: seconds of the workers, and CPU-seconds."""

    calls: int = 0
    read_s: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True)
class _Guarded:
    """What reads samples in a worker process: what stops the run comes as a value.

    An error that a loader carries over from a worker loses its number and gains a traceback.
    """

    read: Callable[[Sequence[int]], ReadResult]

    def __getitem__(self, numbers: Sequence[int]) -> _Answer:
        began, used = time.perf_counter(), time.process_time()
        read = self._tried(numbers)
        return _Answer(read, time.perf_counter() - began, time.process_time() - used)

    def _tried(self, numbers: Sequence[int]) -> ReadResult | Exception:
        try:
            return self.read(numbers)
        except Exception as error:
            return error


def training(
    reader: Reader, sampler: DistributedBatchSampler, num_workers: int, pin: bool
) -> "Ahead":
    """Return this process's batches, for ever."""
    return _ahead(reader.__getitem__, sampler, num_workers, pin, sampler.seed)


def held_out(reader: Reader, run: Run, accelerator: Accelerator) -> "Ahead":
    """Return this process's share of the held-out samples, each once, dealt in turn."""
    numbers = evaluated(len(reader.samples), run.max_eval_samples)
    mine = numbers[accelerator.process_index :: accelerator.num_processes]
    calls = [mine[at : at + run.batch_size] for at in range(0, len(mine), run.batch_size)]
    most = run.num_workers if isinstance(run.num_workers, int) else most_workers()
    workers, pin = min(most, len(calls)), accelerator.device.type == "cuda"
    return _ahead(reader.without_replacement, calls, workers, pin, run.seed)


def most_workers() -> int:
    """Return how many workers may read for this process, which keeps a CPU for itself."""
    return min(max(FIRST_WORKERS, environment.cpus() - 1), MAX_WORKERS)


def evaluated(total: int, most: int | None) -> list[int]:
    """Return the numbers of the held-out samples that count: all, or so many, evenly chosen."""
    count = min(total, most or total)
    return [number * total // count for number in range(count)]


def _ahead(
    read: Callable[[Sequence[int]], ReadResult],
    calls: Iterable[list[int]],
    num_workers: int,
    pin: bool,
    seed: int,
) -> "Ahead":
    """Return what is read for each call, in the order of the calls."""
    with warnings.catch_warnings():
        # Two workers of one CPU are meant: one waits for the disk while the other decodes.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader: DataLoader[Any] = DataLoader(
            _Guarded(read),  # type: ignore[arg-type]  # anything that is indexed will do
            sampler=calls,  # type: ignore[arg-type]
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin,
            worker_init_fn=environment.work_on,
            # Without one of its own it draws from the generator that a resume has just restored.
            generator=torch.Generator().manual_seed(seed),
        )
    made = iter(loader)
    # Torch's own such call was made as it started its workers, so this one comes before it.
    atexit.unregister(_end_workers)
    atexit.register(_end_workers)
    return Ahead(made)


def _end_workers() -> None:
    """End workers that still wait for a question as the process ends.

    An error that is on its way keeps the loader, and its workers hear no SIGTERM: Python would wait
    for them for ever.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own raises where a worker is killed
    for worker in multiprocessing.active_children():
        worker.kill()


class Ahead(Iterator[ReadResult]):
    """What the workers of a loader read, one call after the other; leaving it ends them.

    `cost` is what the calls up to here took.
    """

    def __init__(self, loader: Iterator[_Answer]) -> None:
        self._loader, self.cost = loader, Cost()

    def __next__(self) -> ReadResult:
        """Give the next; raises MachineError where a worker process is gone."""
        try:
            answer = next(self._loader)
        except RuntimeError as error:  # only the loader's own: a reader's comes as a value
            raise MachineError(f"reading ahead: {error}") from error
        self.cost.calls += 1
        self.cost.read_s += answer.read_s
        self.cost.cpu_s += answer.cpu_s
        if isinstance(answer.read, Exception):
            raise answer.read
        return answer.read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """End the workers; torch tells of a killed one by an error wherever this process is.

        Raises:
            MachineError: a worker was killed, and something unexpected came of it.
        """
        workers = getattr(self._loader, "_workers", ())
        killed = any((one.exitcode or 0) < 0 for one in workers)
        self._loader = iter(())
        if killed and isinstance(error, Exception) and not isinstance(error, SparkTrainerError):
            raise MachineError(f"reading ahead: {error}") from error
