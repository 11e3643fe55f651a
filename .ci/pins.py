"""The pinned versions in pyproject.toml: every package of the environment, no addresses.

uv run python .ci/pins.py          exit 1 if an installed version is not the pinned one, or if the
                                   containers in envs/ drift from each other, or from what is here
uv run python .ci/pins.py --fix    write the installed versions into pyproject.toml
python .ci/pins.py --list          print the pinned versions, for `--constraints` of pip and uv

To move to newer versions: empty the list, `uv sync --all-groups --upgrade`, then --fix.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = ROOT / "pyproject.toml"
CONTAINERS = ("envs/Dockerfile", "envs/apptainer.def")
STATED = {  # what each states, once or in each stage
    "image": r"^F(?:ROM|rom:) (\S+)",
    "uv": r"uv==(\S+)",
    "Python": r"UV_PYTHON=\S*?python(3\.\d+)",
    "extra": r"--extra (\S+)",
    "system package": r"--no-install-recommends (.+?)(?: \\)?$",
}
BLOCK = re.compile(r"^constraint-dependencies = \[\n(.*?)^\]\n", re.MULTILINE | re.DOTALL)


def installed() -> dict[str, str]:
    """Normalised name -> public version of every package but this project."""
    found = {
        re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower(): package.version.partition("+")[0]
        for package in metadata.distributions()
    }
    found.pop("spark-trainer", None)
    return dict(sorted(found.items()))


def drifted() -> list[str]:
    """Say where the containers, which take the pinned packages, differ in what they state."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in CONTAINERS}
    wrong = []
    stated: dict[str, str] = {}
    for what, pattern in STATED.items():
        found = {name: {*re.findall(pattern, text, re.M)} for name, text in texts.items()}
        told = set().union(*found.values())
        if len(told) != 1 or not all(found.values()):
            wrong.append(f"{what}: {'; '.join(f'{n}: {sorted(v)}' for n, v in found.items())}")
        stated[what] = min(told, default="")
    python = stated["Python"]
    if not stated["image"].startswith(f"python:{python}-"):
        wrong.append(f"{CONTAINERS[0]}: the image {stated['image']} has no Python {python}")
    wrong += [
        f"{path.relative_to(ROOT)}: expected python ={python}, as the containers have"
        for path in sorted(ROOT.glob("envs/*.yaml"))
        if f"- python ={python}\n" not in path.read_text(encoding="utf-8")
    ]
    if not re.search(rf"^{stated['extra']} = \[", PROJECT.read_text(encoding="utf-8"), re.M):
        wrong.append(f"{CONTAINERS[0]}: {PROJECT.name} has no extra {stated['extra']}")
    return wrong


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
    sys.exit("\n".join(wrong + drifted()) or 0)


if __name__ == "__main__":
    main()
