"""`continue_from`: a run begins with the checkpoints of another."""

from collections.abc import Callable

from spark_trainer.config import ConfigError
from spark_trainer.data.files import read_json
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.train import checkpoints


def begin(base: RunFolder, folder: RunFolder, run_id: str, say: Callable[[str], object]) -> None:
    """Give a run that has no checkpoint yet those of another to go on from.

    Args:
        base: the folder of the other.
        folder: the folder of the run.
        run_id: its id.
        say: called with what became of it.

    Raises:
        ConfigError: none of them is whole.
    """
    if folder.saved_checkpoints():
        return
    theirs = LaunchedRun.read(base).run_id
    for saved in reversed(base.saved_checkpoints()):
        if wrong := checkpoints.fault(saved, theirs):
            say(f"{saved} is broken and left out: {wrong}")
            continue
        progress = read_json(saved / checkpoints.STEP)["progress"]
        best = base.checkpoint(int(progress.get("best_step", 0)))
        if best != saved and best.exists() and not checkpoints.fault(best, theirs):
            checkpoints.adopt(best, folder, run_id)
        checkpoints.adopt(saved, folder, run_id)
        say(f"going on from {saved}")
        return
    raise ConfigError(f"train.continue_from: no checkpoint in {base} is whole")
