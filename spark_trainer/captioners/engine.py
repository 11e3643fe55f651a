"""Captioning many videos with one loaded model, in batches of similar length or side by side.

Worker processes read and prepare frames while the model works. A batch that doesn't fit into memory
is halved; captions that were finished before it stay. When a batch fails in another way, its videos
are tried alone, and one counts as the cause only if a plain grey picture still gets a caption.
"""

import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

from spark_trainer.captioners.base import Captioner, Prepared, Shown, Trouble
from spark_trainer.config import ConfigError
from spark_trainer.data.sample import Unusable
from spark_trainer.errors import ABSENT, MachineError, of_machine, unexpected
from spark_trainer.system.environment import end_with_parent
from spark_trainer.system.memory import OutOfMemory, is_out_of_memory

LARGEST = 256  # videos in a batch
WINDOW = 4  # batches among which videos are sorted by length
GREY_PX = 64  # side of the picture that shows whether the model works at all
LARGEST_WINDOW = 64  # videos, unless a batch is larger: a prepared video takes megabytes
AT_ONCE = 64  # videos that a captioner works on side by side, unless the settings say
GAIN = 1.05  # least speed-up for which a doubled batch is kept


class BatchSize:
    """The number of videos in a batch: as configured, or found while working.

    `auto` starts with one and doubles as long as that raises the videos per second. Running out of
    memory halves the number for good, in both cases.
    """

    def __init__(self, wanted: Literal["auto"] | int) -> None:
        self.size = 1 if wanted == "auto" else wanted
        self._growing = wanted == "auto"
        self._best = 0.0

    def window(self, batches_done: int) -> int:
        """Return how many videos to sort by length; few at first, so that the model starts."""
        wanted = min(WINDOW, 1 + batches_done) * self.size
        return max(self.size, min(wanted, LARGEST_WINDOW))

    def fitted(self, count: int, seconds: float) -> None:
        """Note that a batch of `count` was finished."""
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
        """Note that a batch of `count` did not fit."""
        self.size, self._growing = max(1, count // 2), False


def run(
    captioner: Captioner,
    videos: Sequence[Shown],
    batch_size: Literal["auto"] | int,
    num_workers: int,
) -> Iterator[tuple[int, str | Trouble, float]]:
    """Caption videos, in the order in which they are finished.

    Yields:
        A video's number, its caption or why it has none, and the seconds that the model took.

    Raises:
        OutOfMemory: the first video alone does not fit.
        ConfigError: no picture can be captioned with these settings.
        MachineError: the device has stopped working, or a worker process was killed.
    """
    if not captioner.READS_FRAMES:
        for number, shown in enumerate(videos):
            yield number, captioner.caption([captioner.prepare(shown)])[0], 0.0
    elif captioner.SIDE_BY_SIDE:
        at_once = AT_ONCE if batch_size == "auto" else batch_size
        yield from _side_by_side(captioner, videos, at_once, num_workers)
    else:
        yield from _in_batches(captioner, videos, batch_size, num_workers)


def _in_batches(
    captioner: Captioner,
    videos: Sequence[Shown],
    batch_size: Literal["auto"] | int,
    num_workers: int,
) -> Iterator[tuple[int, str | Trouble, float]]:
    """Caption videos of similar length together; see `run`."""
    size = BatchSize(batch_size)
    waiting: list[tuple[int, Prepared]] = []
    ahead = LARGEST_WINDOW if batch_size == "auto" else 2 * batch_size
    ready = _prepared(captioner, videos, num_workers, ahead)
    more, done = True, 0
    while more or waiting:
        while more and len(waiting) < size.window(done):
            number, prepared = _next(ready)
            if number is None:
                more = False
            elif isinstance(prepared, Trouble):
                _check(captioner, prepared, done)
                yield number, prepared, 0.0
            else:
                waiting.append((number, prepared))
        if not waiting:
            continue
        waiting.sort(key=lambda one: int(one[1]["length"]), reverse=True)
        batch, waiting = waiting[: size.size], waiting[size.size :]
        start = time.perf_counter()
        texts = _texts(captioner, [prepared for _, prepared in batch], done)
        if texts is None:
            size.too_large(len(batch))
            waiting = batch + waiting
            continue
        done += 1
        seconds = time.perf_counter() - start
        size.fitted(len(batch), seconds)
        for (number, _), text in zip(batch, texts, strict=True):
            yield number, text, seconds / len(batch)


def _side_by_side(
    captioner: Captioner, videos: Sequence[Shown], at_once: int, num_workers: int
) -> Iterator[tuple[int, str | Trouble, float]]:
    """Caption each video by itself, so many at once; see `run`.

    One that is finished makes room for the next. Its seconds are those since the one before it was.
    An error that ends the job is raised when all that were begun are finished.
    """
    ready, more, done = _prepared(captioner, videos, num_workers, at_once), True, 0
    running: dict[Future[Sequence[str | Trouble] | None], int] = {}
    failure: Exception | None = None
    last = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        while more or running:
            room = more and len(running) < at_once
            if room:
                number, prepared = _next(ready)
                if number is None:
                    more = False
                elif isinstance(prepared, Trouble):
                    _check(captioner, prepared, done)
                    yield number, prepared, 0.0
                else:
                    running[pool.submit(_texts, captioner, [prepared], done)] = number
            finished, _ = wait(running, 0 if room else None, FIRST_COMPLETED)
            for one in finished:
                number = running.pop(one)
                try:
                    [text] = one.result() or ()
                except Exception as error:
                    failure, more = failure or error, False
                    continue
                now = time.perf_counter()
                yield number, text, now - last
                done, last = done + 1, now
    if failure:
        raise failure


def trouble(error: Exception) -> Trouble:
    """Return the reason why a video has no caption, from the error that it caused."""
    if isinstance(error, Unusable):
        return Trouble(str(error), unread=True)
    if of_machine(error):
        said = str(error) or type(error).__name__
        return Trouble(said, machine=True, unread=isinstance(error, ABSENT))
    details = "".join(traceback.format_exception(error))
    return Trouble(unexpected(error), details=details)


def _texts(
    captioner: Captioner, batch: list[Prepared], done: int
) -> Sequence[str | Trouble] | None:
    """Return the captions of a batch; None where several videos do not fit at once."""
    from accelerate.utils.memory import clear_device_cache

    try:
        texts = captioner.caption(batch)
    except (ConfigError, MachineError):
        raise
    except Exception as error:
        failure = error
    else:
        for text in texts:
            if isinstance(text, Trouble):
                _check(captioner, text, done)
        return texts
    clear_device_cache(garbage_collection=True)
    if is_out_of_memory(failure):
        if len(batch) > 1:
            return None
        if not done:
            raise OutOfMemory(str(failure)) from failure
        return [Trouble(f"does not fit into memory: {failure}", machine=True)]
    if of_machine(failure):
        raise failure
    if len(batch) > 1:
        alone = [_texts(captioner, [one], done) for one in batch]
        return [text for texts in alone for text in texts or ()]
    blamed = trouble(failure)
    _check(captioner, blamed, done)
    return [blamed]


def _check(captioner: Captioner, blamed: Trouble, done: int) -> None:
    """Test after an unexpected error whether a grey picture still gets a caption.

    Raises:
        ConfigError: it doesn't, and no video did before.
        MachineError: it doesn't, but a video did before.
    """
    if not blamed.details:
        return
    from PIL import Image

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frame_000001.jpg"
            Image.new("RGB", (GREY_PX, GREY_PX), (127, 127, 127)).save(path)
            captioner.predict_batch([[path, path]])
    except (ConfigError, MachineError):
        raise
    except Exception as error:
        said = str(error) if isinstance(error, Unusable) else unexpected(error)
        what = f"not even a grey picture gets a caption: {said}"
        if done or of_machine(error) or is_out_of_memory(error):
            raise MachineError(f"caption: {what}") from error
        raise ConfigError(
            f"caption.model_name: the checkpoint or how it is asked can't be used, {what}"
        ) from error


def _next(ready: Iterator[tuple[int, Any]]) -> tuple[int | None, Any]:
    """Return the next prepared video and its number, which is None after the last.

    Raises:
        ConfigError: no video can be prepared with these settings.
        MachineError: a worker process has ended.
    """
    try:
        number, prepared = next(ready, (None, None))
    except RuntimeError as error:  # only the loader's own: what a video raises comes as `Trouble`
        raise MachineError(f"caption: reading ahead: {error}") from error
    if isinstance(prepared, ConfigError):
        raise prepared
    return number, prepared


class _Preparing:
    """The data set of a DataLoader: a video by its number, prepared, or why it can't be."""

    def __init__(self, captioner: Captioner, videos: Sequence[Shown]) -> None:
        self._captioner, self._videos = captioner, videos

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, number: int) -> tuple[int, Prepared | Trouble | ConfigError]:
        try:
            return number, self._captioner.prepare(self._videos[number])
        except ConfigError as error:
            return number, error
        except Exception as error:
            return number, trouble(error)


def _prepared(
    captioner: Captioner, videos: Sequence[Shown], num_workers: int, ahead: int
) -> Iterator[tuple[int, Any]]:
    """Yield the videos in order, `ahead` of them prepared by `num_workers` processes."""
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
