"""The pinned versions in pyproject.toml: every package of the environment, no addresses.

uv run python .ci/pins.py          exit 1 if an installed version is not the pinned one
uv run python .ci/pins.py --fix    write the installed versions into pyproject.toml
python .ci/pins.py --list          print the pinned versions, for `--constraints` of pip and uv

To move to newer versions: empty the list, `uv sync --all-groups --upgrade`, then --fix.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
BLOCK = re.compile(r"^constraint-dependencies = \[\n(.*?)^\]\n", re.MULTILINE | re.DOTALL)


def installed() -> dict[str, str]:
    """Normalised name -> public version of every package but this project."""
    found = {
        re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower(): package.version.partition("+")[0]
        for package in metadata.distributions()
    }
    found.pop("spark-trainer", None)
    return dict(sorted(found.items()))


def main() -> None:
    """Check or rewrite the pins."""
    text = PROJECT.read_text(encoding="utf-8")
    if "--fix" in sys.argv:
        lines = "".join(f'  "{name}=={version}",\n' for name, version in installed().items())
        block = f"constraint-dependencies = [\n{lines}]\n"
        PROJECT.write_text(BLOCK.sub(lambda _: block, text), encoding="utf-8")
        return
    match = BLOCK.search(text)
    if "--list" in sys.argv:
        print("\n".join(re.findall(r'"(.+?)"', match.group(1) if match else "")))
        return
    pinned = dict(re.findall(r'"(.+?)==(.+?)"', match.group(1) if match else ""))
    wrong = [
        f"{name}: installed {version}, pinned {pinned.get(name)}"
        for name, version in installed().items()
        if pinned.get(name) != version
    ]
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
