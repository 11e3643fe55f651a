"""How Snakemake is called: with the workflow of this package, in the folder of the command."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from spark_trainer.system import origin

PROGRAM = "snakemake"
QUIET = "spark_trainer.report.quiet"
SNAKEFILE = ("--snakefile", str(origin.workflow() / "Snakefile"))
PROFILE = "--workflow-profile"


def ask(targets: Sequence[str], configuration: Path, words: Sequence[str]) -> NoReturn:
    """Become Snakemake, so that a signal reaches Snakemake itself and it can end in order.

    Args:
        targets: what to build; none stands for everything.
        configuration: its file.
        words: further targets and flags of Snakemake.
    """
    command = [sys.executable, "-m", QUIET, *targets, *words]
    os.execv(sys.executable, [*command, *beside(words), "--configfile", str(configuration)])  # noqa: S606


def beside(words: Sequence[str] = ()) -> list[str]:
    """Return the flags that name the workflow; its profile gives way to one of the user's."""
    given = any(word.partition("=")[0] == PROFILE for word in words)
    profile = () if given else (PROFILE, str(origin.workflow() / "profiles/default"))
    return [*SNAKEFILE, *profile]
