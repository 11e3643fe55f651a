"""Where this package comes from: its version, its commit, the workflow that belongs to it."""

import json
import subprocess
from importlib import metadata, resources
from pathlib import Path

PACKAGE = "spark-trainer"


def workflow() -> Path:
    """Return the folder of the Snakefile, the rules, the profiles and the shipped configurations.

    A wheel brings them inside the package; in a checkout they lie beside it.
    """
    package = Path(str(resources.files("spark_trainer")))
    return package / "workflow" if _installed(package) else package.parent


def shipped(path: Path) -> Path:
    """Return a file of the user's, or the one that the workflow brings under the same name."""
    inside = workflow() / path
    return inside if not path.exists() and inside.is_file() else path


def commit() -> str | None:
    """Name the commit of the code, marked when files were edited; None where nothing tells it."""
    if described := git("describe", "--always", "--dirty", "--abbrev=40"):
        return described.strip()
    return _installed_commit()


def git(*words: str) -> str | None:
    """Return what git says of the package's checkout; None where it says nothing.

    A wheel may be installed below a repository of the user's, which is another one.
    """
    package = Path(str(resources.files("spark_trainer")))
    if _installed(package):
        return None
    try:
        done = subprocess.run(["git", *words], cwd=package, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.decode(errors="replace") or None


def _installed(package: Path) -> bool:
    return (package / "workflow").is_dir()


def _installed_commit() -> str | None:
    """Return the commit that an installer noted, as it does for `git+https://…` (PEP 610)."""
    try:
        noted = metadata.distribution(PACKAGE).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    commit = json.loads(noted or "{}").get("vcs_info", {}).get("commit_id")
    return commit if isinstance(commit, str) else None
