"""Many videos through one loaded model: frames read ahead, batches of like length.

Worker processes read and prepare frames while the model writes. A batch that doesn't fit into
memory is halved, and what was finished before it stays finished.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from spark_trainer.captioners import Captioner, Prepared, Shown
from spark_trainer.environment import end_with_parent

LARGEST = 256  # videos in a batch
WINDOW = 4  # batches among which videos are sorted by length
LARGEST_WINDOW = 64  # videos, where a batch is not larger: a prepared video takes megabytes
GAIN = 1.05  # by which twice the batch must be faster to be kept


class OutOfMemory(RuntimeError):
    """A single video does not fit into memory."""


class Unreadable(str):
    """Why a video could not be prepared."""


class BatchSize:
    """How many videos make a batch: as configured, or found while working.

    `auto` starts with one and doubles as long as that raises the videos per second. Running out of
    memory halves either, for good.
    """

    def __init__(self, wanted: Literal["auto"] | int) -> None:
        self.size = 1 if wanted == "auto" else wanted
        self._growing = wanted == "auto"
        self._best = 0.0

    def window(self, batches_done: int) -> int:
        """How many videos to sort by length; few at first, so that the model begins at once."""
        wanted = min(WINDOW, 1 + batches_done) * self.size
        return max(self.size, min(wanted, LARGEST_WINDOW))

    def fitted(self, count: int, seconds: float) -> None:
        """A batch of `count` was finished."""
        if not self._growing or count < self.size:
            return
        rate = count / max(seconds, 1e-9)
        if self.size > 1 and rate < GAIN * self._best:
            self._growing = False
            if rate < self._best:
                self.size //= 2
        elif 2 * self.size > LARGEST:
            self._growing = False
        else:
            self.size *= 2
        self._best = max(self._best, rate)

    def too_large(self, count: int) -> None:
        """A batch of `count` did not fit."""
        self.size, self._growing = max(1, count // 2), False


def run(
    captioner: Captioner,
    videos: Sequence[Shown],
    batch_size: Literal["auto"] | int,
    num_workers: int,
) -> Iterator[tuple[int, str | Unreadable, float]]:
    """Caption videos, in the order in which they are finished.

    Yields:
        A video's number, its caption or why it has none, and the seconds that the model took.

    Raises:
        OutOfMemory: one video alone does not fit.
    """
    from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

    size = BatchSize(batch_size)
    waiting: list[tuple[int, Prepared]] = []
    ahead = LARGEST_WINDOW if batch_size == "auto" else 2 * batch_size
    ready = _prepared(captioner, videos, num_workers, ahead)
    more, done = True, 0
    while more or waiting:
        while more and len(waiting) < size.window(done):
            try:
                number, prepared = next(ready)
            except StopIteration:
                more = False
                break
            if isinstance(prepared, Unreadable):
                yield number, prepared, 0.0
            else:
                waiting.append((number, prepared))
        if not waiting:
            continue
        waiting.sort(key=lambda one: int(one[1]["length"]), reverse=True)
        batch, waiting = waiting[: size.size], waiting[size.size :]
        start = time.perf_counter()
        try:
            texts = captioner.caption([prepared for _, prepared in batch])
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if len(batch) == 1:
                raise OutOfMemory(str(error)) from error
            size.too_large(len(batch))
            waiting = batch + waiting
            texts = []
        if not texts:
            clear_device_cache(garbage_collection=True)
            continue
        done += 1
        seconds = time.perf_counter() - start
        size.fitted(len(batch), seconds)
        for (number, _), text in zip(batch, texts, strict=True):
            yield number, text, seconds / len(batch)


class _Preparing:
    """The data set of a DataLoader: a video by its number, prepared, or why it can't be."""

    def __init__(self, captioner: Captioner, videos: Sequence[Shown]) -> None:
        self._captioner, self._videos = captioner, videos

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, number: int) -> tuple[int, Prepared | Unreadable]:
        try:
            return number, self._captioner.prepare(self._videos[number])
        except OSError as error:
            return number, Unreadable(error)


def _prepared(
    captioner: Captioner, videos: Sequence[Shown], num_workers: int, ahead: int
) -> Iterator[tuple[int, Any]]:
    """The videos in order, so many of them prepared ahead by so many processes."""
    from torch.utils.data import DataLoader

    data: Any = _Preparing(captioner, videos)
    workers = min(num_workers, len(videos) // 2)
    return iter(
        DataLoader(
            data,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=-(-ahead // workers) if workers else None,
            worker_init_fn=end_with_parent,
        )
    )
