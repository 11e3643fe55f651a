"""One function over many videos at once; the error of one video becomes its record."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import ModuleType

from spark_trainer.config import ConfigError
from spark_trainer.data.layout import Video
from spark_trainer.errors import UserError, of_machine
from spark_trainer.steps.base import Context, Said, Settings, Step
from spark_trainer.system import log

LONGEST = 500  # characters of an unexpected error's message


def each(
    step: Step[Settings, Said],
    function: Callable[[Video, Context[Settings]], Said],
    videos: list[Video],
    context: Context[Settings],
) -> Iterator[tuple[Video, Said]]:
    """Apply a function to every video, `context.workers` at once, results as they come.

    Args:
        step: the step.
        function: makes one video's record.
        videos: the videos.
        context: is handed on.

    Raises:
        ConfigError: the settings can't be carried out; no other video is begun.
    """

    def one(video: Video) -> Said:
        try:
            return function(video, context)
        except Exception as error:
            return trouble(step, error)

    with ThreadPoolExecutor(context.workers) as pool:
        futures = {pool.submit(one, video): video for video in videos}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


def trouble(step: Step[Settings, Said], error: Exception) -> Said:
    """Say what an error makes of the one video at which it happened.

    Returns:
        `failed`, to be tried again, where the machine is to blame. Else the video is `rejected` by
        a step that reads the video itself, and gets nothing from one that reads others' results.

    Raises:
        ConfigError: the error itself, where the settings are to blame.
    """
    if isinstance(error, ConfigError | UserError):
        raise error
    said = " ".join(str(error).split())[:LONGEST]
    if of_machine(error) or _of_installation(error):
        return step.RECORD.failed(said or type(error).__name__)
    log.logger.error("unexpected %s", type(error).__name__, exc_info=error)
    reason = f"unexpected {type(error).__name__}: {said}"
    return step.RECORD.nothing(reason) if step.upstream else step.RECORD.rejected(reason)


def _of_installation(error: Exception) -> bool:
    """Tell whether a library, or a part of one, is not there, which is no fact about a video."""
    lacks = isinstance(error, AttributeError) and isinstance(error.obj, ModuleType)
    return lacks or isinstance(error, ImportError)
