"""Kills of a training, its checkpoints broken in between: the curve stays what it was."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from spark_trainer.system import gpu

from .conftest import dropping, metrics
from .test_checkpoints import DAMAGES, FILES
from .test_stop import running, start, until, updates

KILLS = 6  # two each of the command, the training process, and a worker of it
SETTINGS = {
    "max_steps": 40,
    "eval_steps": 20,
    "checkpoint_steps": 1,
    "keep_checkpoints": 4,
    "num_workers": 1,
    "ema_decay": 0.9,
    "clip": {"num_frames": 2, "sampling": "random"},
}


@pytest.mark.long
@pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")
def test_kills_and_broken_checkpoints(make: Any, checkpoint: Path, tmp_path: Path) -> None:
    """Of one process each time, and every second time the newest checkpoint is broken too."""
    model = str(dropping(checkpoint, tmp_path))
    calm = make("calm", model_name=model, **SETTINGS)
    start(calm, tmp_path / "state").communicate()
    made = make("killed", model_name=model, **SETTINGS)
    chance, kills, broken = random.Random(14), 0, 0
    while kills < KILLS:
        process = start(made, tmp_path / "state")
        # What a busy machine lets pass until a kill comes, the next begins with.
        goal = max(updates(made) + 1, 3 * (kills + 1) + chance.randint(0, 2))
        until(lambda most=goal, one=process: updates(made) >= most or one.poll() is not None)
        time.sleep(chance.random() * 0.1)
        everyone = [process, *process.children(recursive=True)]
        try:
            everyone[kills % len(everyone)].send_signal(signal.SIGKILL)
            kills += 1
        except psutil.NoSuchProcess:
            pass
        process.communicate()
        until(lambda: not running(made))
        assert not (made.folder.path / "trained.json").exists(), "it was done before it was killed"
        saved = made.folder.saved_checkpoints()
        if saved and kills % 2:
            chance.choice(DAMAGES)(saved[-1] / chance.choice(FILES))
            broken += 1
    last = start(made, tmp_path / "state")
    last.communicate()
    assert last.returncode == 0
    assert broken >= KILLS // 3
    assert metrics(made.folder.path) == metrics(calm.folder.path)
