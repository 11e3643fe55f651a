"""No page shows a flag, an extra, a key or a name of Python that isn't there, run here or not."""

import ast
import contextlib
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache

import pytest
import yaml
from snakemake.cli import get_argument_parser

from spark_trainer import cli
from spark_trainer.config import Config, ConfigError, Run, described
from spark_trainer.config.rewards import Rewards
from spark_trainer.errors import UserError

from .pages import KEYS, PAGES, ROOT, commands, parts, yaml_blocks

DEFAULT = ROOT / "config/default.yaml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = {*PROJECT["project"]["optional-dependencies"]}
GROUPS = {*PROJECT["dependency-groups"]}
MARKERS = {one.partition(":")[0] for one in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
INLINE = [
    (page.relative_to(ROOT).as_posix(), told)
    for page in PAGES
    for told in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
]
BEFORE = re.compile(r"(?:[A-Z_]+=\S+ |srun .*?(?=python)|uv run (?:--group \w+ |--no-sync )?)*")
SCRIPT = re.compile(r"[\w./]+\.(?:py|sh)")
# Flags of other programs, which pages name without their command; or no flags at all.
OF_OTHERS = {
    **dict.fromkeys(("--constraints", "--no-sync"), "uv"),
    "-c": "pip",
    **dict.fromkeys(("--logprobs-mode", "--max-model-len"), "vLLM"),
    "--signal": "sbatch",
    "-m": "pytest",
    **dict.fromkeys(("-t", "-u", "--init", "--shm-size"), "docker"),
    "--nv": "apptainer",
    "-dirty": "git describe",
    "-hf": "how names end",
}
NO_KEYS = {  # they begin like one
    **dict.fromkeys(("audio.wav", "frames.json", "pose.mp4", "train.log"), "a file"),
    **dict.fromkeys(("transcript.json", "caption.json"), "a file"),
    **dict.fromkeys(("train.json", "train.jsonl", "train.toml"), "a file of an export"),
}


def calls() -> Iterator[tuple[str, list[str]]]:
    """Find each program that the commands of the pages call: the command, and its words."""
    for line in commands():
        for call in re.split(r"\s(?:&&|\||>)\s", line):
            if words := shlex.split(BEFORE.sub("", call, count=1)):
                yield line, words


@cache
def ours(program: str, about_a_store: bool) -> dict[str, set[str]]:
    """List the commands of ours with their flags; those of the program stand below ""."""
    parser = cli._parser(program, about_a_store)
    found = {"": {flag for one in parser._actions for flag in one.option_strings}}
    for one in parser._actions:
        if isinstance(one.choices, dict):
            found |= {name: {*sub._option_string_actions} for name, sub in one.choices.items()}
    return found


@cache
def of_snakemake() -> dict[str, object]:
    """List the flags of Snakemake."""
    return dict(get_argument_parser()._option_string_actions)


def unknown(words: list[str]) -> list[str]:
    """Name what a call has that its program doesn't know.

    Raises:
        UserError: a command of ours can't be called so.
    """
    match words:
        case ["snakemake", *given]:
            return list(get_argument_parser().parse_known_args(given)[1])
        case ["spark-trainer", *given] | ["python", "-m", "spark_trainer", *given]:
            program = cli.PROGRAM if words[0] == cli.PROGRAM else cli.MODULE
            known = ours(program, "diff" in given)
            if given[-1] == "--help" or given[0].startswith("-"):
                return [one for one in given[:1] if one not in {*known, *known[""]}]
            return unknown(["snakemake", *cli._read(given, program).passed_on])
        case ["pytest", *given]:
            marks = given[given.index("-m") + 1].split() if "-m" in given else []
            return [one for one in marks if one not in {*MARKERS, "and", "not"}]
        case ["uv" | "pip", *given]:
            asked = {*re.findall(r"\[([\w,-]+)\]", " ".join(given))}
            named = {name for several in asked for name in several.split(",")}
            named |= {given[at + 1] for at, word in enumerate(given) if word == "--extra"}
            return sorted(named - EXTRAS)
        case ["python", script, *given] | [script, *given] if SCRIPT.fullmatch(script):
            shared = "benchmarks/measure.py" if "benchmarks" in script else script
            text = "".join((ROOT / path).read_text() for path in (script, shared))
            own = given[: given.index("uv")] if "uv" in given else given
            return [one for one in own if one.startswith("--") and f'"{one}"' not in text]
        case ["docker" | "apptainer", "run", *given]:
            image = next(at for at, word in enumerate(given) if word.startswith("spark-trainer"))
            return unknown([cli.PROGRAM, *given[image + 1 :]])
        case _:
            return []


def test_flags_of_commands() -> None:
    wrong = []
    for line, words in calls():
        try:
            wrong += [f"{line}: no {word}" for word in unknown(words)]
        except UserError as error:
            wrong.append(f"{line}: {error}")
    assert not wrong, "\n".join(wrong)


def test_flags_by_themselves() -> None:
    """A flag in a sentence is one of ours, of a benchmark, of Snakemake, or of a program named."""
    known = {*OF_OTHERS, *of_snakemake()}
    for program in (cli.PROGRAM, cli.MODULE):
        for about_a_store in (False, True):
            known = known.union(*ours(program, about_a_store).values())
    scripts = (*ROOT.glob("benchmarks/*.py"), ROOT / "tests/slurm/cluster.py")
    known |= {flag for path in scripts for flag in re.findall(r'"(--[\w-]+)"', path.read_text())}
    wrong = [
        f"{page}: {flag}"
        for page, told in INLINE
        for flag in re.findall(r"^(--?[a-z][\w-]*)", told)
        if page != "docs/coming-from.md" and flag not in known  # whose flags are other tools'
    ]
    assert not wrong, "\n".join(wrong)


def test_commands_by_their_last_words() -> None:
    """`gc --dry-run` in a sentence is a command that has this flag."""
    known = ours(cli.MODULE, True)
    wrong = [
        f"{page}: {told}"
        for page, told in INLINE
        if (words := told.split())[0] in known
        and any(word.startswith("--") and word not in known[words[0]] for word in words[1:])
    ]
    assert not wrong, "\n".join(wrong)


def test_keys_in_sentences() -> None:
    """`caption.max_characters` in a sentence is a key, from its section on or from a run's."""
    heads = dict.fromkeys(Rewards.model_fields, "train.rft.rewards.")
    heads |= {"vllm": "train.rft."} | dict.fromkeys(Run.model_fields, "train.")
    heads |= dict.fromkeys(Config.model_fields, "")
    pages: dict[str, str] = {}
    for page, told in INLINE:
        found = re.match(r"((\w+)\.[a-z_][\w.]*)(?::|$)", told)
        if found and found[2] in heads and found[1] not in NO_KEYS:
            pages[heads[found[2]] + found[1]] = page
    wrong = []
    for key in pages.keys() - {*defaults(yaml.safe_load(DEFAULT.read_text(encoding="utf-8")))}:
        try:
            described.default_yaml(key)  # it knows those without a default too
        except ConfigError as error:
            wrong.append(f"{pages[key]}: {error}")
    assert len(pages) > 80
    assert not wrong, "\n".join(wrong)


def defaults(data: dict[str, object], above: str = "") -> Iterator[str]:
    """List the keys of a mapping, and those below them."""
    for key, value in data.items():
        yield above + key
        if isinstance(value, dict):
            yield from defaults(value, f"{above}{key}.")


def test_no_configuration_is_overlooked() -> None:
    """What looks like one is read by test_yaml.py: its first key is a key."""
    read = {block.text for block in yaml_blocks()}
    wrong = []
    for block in parts():
        first = re.match(r"[a-z_]+:( |\n|$)", block.text)
        if first and block.text not in read and "expected" not in block.text:
            try:
                wrong += [str(block)] if isinstance(yaml.safe_load(block.text), dict) else []
            except yaml.YAMLError:
                continue
    assert not wrong, f"{wrong}: expected one of {KEYS} first"


def test_python_of_the_pages_finds_what_it_imports() -> None:
    """Of those pages that no test carries out."""
    for block in parts():
        if block.page.startswith("new-"):
            continue
        try:
            tree = ast.parse(block.text)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spark_trainer"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name) or importlib.import_module(
                        f"{node.module}.{alias.name}"
                    ), block


@pytest.mark.parametrize(
    "words",
    [
        ["snakemake", "manifest", "--core", "8", "--bogus"],
        ["spark-trainer", "plan", "--bogus"],
        ["python", "-m", "spark_trainer", "report", "--bogus"],
        ["uv", "sync", "--extra", "bogus"],
        ["pip", "install", "spark-trainer[bogus]"],
        ["pytest", "-m", "bogus"],
        ["docker", "run", "--rm", "spark-trainer", "report", "--bogus"],
        ["tests/slurm/cluster.py", "--bogus", "uv", "run"],
    ],
    ids=" ".join,
)
def test_one_that_is_not_there_is_found(words: list[str]) -> None:
    with contextlib.suppress(UserError):  # which names it, as test_flags_of_commands shows
        assert any("bogus" in one for one in unknown(words))
