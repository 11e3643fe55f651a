"""How Snakemake is called: with the workflow of this package, in the folder of the command."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from spark_trainer.system import log, origin

PROGRAM = "snakemake"
QUIET = "spark_trainer.report.quiet"
SNAKEFILE = ("--snakefile", str(origin.workflow() / "Snakefile"))
PROFILE = "--workflow-profile"
ELSEWHERE = ("--profile", "--executor", "-e")  # flags by which jobs run on other machines


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


def kept(configuration: Mapping[str, Any]) -> Path:
    """Write the configuration that a command makes of flags, where it stays beside the log.

    Args:
        configuration: what stands in it.
    """
    path = log.name_file().with_name("config.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json.dumps(configuration))  # YAML knows no tuples
    path.write_text(yaml.safe_dump(plain, allow_unicode=True), encoding="utf-8")
    return path


def elsewhere(words: Sequence[str]) -> bool:
    """Tell whether jobs will run on other machines.

    Args:
        words: flags of Snakemake.
    """
    return "SNAKEMAKE_PROFILE" in os.environ or any(word.startswith(ELSEWHERE) for word in words)
