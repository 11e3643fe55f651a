"""The environment that jobs inherit."""

import os
import sys
from pathlib import Path


def prefer_this_interpreter() -> None:
    """Put this Python first on the PATH: jobs run `python`, also where nothing is activated."""
    folder = str(Path(sys.executable).parent)
    folders = os.environ.get("PATH", "").split(os.pathsep)
    if folders[0] != folder:
        os.environ["PATH"] = os.pathsep.join([folder, *folders])
