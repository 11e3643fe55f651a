"""The seams of the package hold: who may import whom, what stays light, what belongs together."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from spark_trainer import config, steps

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "spark_trainer"
RULES = sorted((ROOT / "rules").glob("*.smk"))
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))

HEAVY = {
    *(
        "accelerate",
        "av",
        "ctranslate2",
        "cv2",
        "deepspeed",
        "diffusers",
        "efficientnet_lite_pytorch",
    ),
    *("faster_whisper", "mediapipe", "peft", "torch", "torchvision", "transformers", "whisper"),
}

# Part of the package -> the parts that it may import, besides itself.
MAY_IMPORT = {
    "config": set(),
    "environment": set(),
    "errors": set(),
    "console": {"config", "log"},
    "failures": {"data"},
    "log": {"gpu"},
    "gpu": set(),
    "slurm": {"log"},
    "holder": set(),
    "lock": {"data", "holder"},
    "data": {"config", "holder", "media"},
    "captioners": {"chat", "config", "data", "environment", "families"},
    "transcribers": {"config", "data"},
    "detectors": {"config", "data"},
    "steps": {
        "captioners",
        "config",
        "data",
        "detectors",
        "gpu",
        "log",
        "media",
        "scores",
        "transcribers",
        "workers",
    },
    "graph": {"config", "data", "steps", "train"},
    "scores": set(),
    "losses": set(),
    "packing": set(),
    "pipelines": {"config", "data", "families"},
    "chat": {"data", "families", "losses"},
    "gallery": {"data"},
    "families": {"chat", "config", "data", "losses", "media", "packing", "pipelines"},
    "methods": {"config", "data", "families", "losses"},
    "runs": {"config", "data"},
    "train": {
        *("config", "data", "environment", "families", "gpu", "log", "losses", "methods"),
        *("pipelines", "scores", "steps"),
    },
}
HEAVY_AT_TOP = {"losses", "methods", "packing", "train"}  # whoever imports these wants tensors


@dataclass(frozen=True)
class Import:
    """One imported module of one file; `top` when it happens as the file is imported."""

    file: Path
    module: str
    top: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)} imports {self.module}"


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file but those that only a type checker sees."""
    found: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), True)]
    while found:
        node, top = found.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found += [(child, top) for child in node.orelse]
            continue
        if isinstance(node, ast.Import):
            yield from (Import(path, alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                yield Import(path, f"{node.module}.{alias.name}", top)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        found += [(child, top and not inside) for child in ast.iter_child_nodes(node)]


def part(path: Path) -> str:
    """The first name below the package: `families` for families/blip.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = [found for path in MODULES for found in imports(path)]
OURS = [found for found in IMPORTS if found.module.startswith("spark_trainer.")]


def test_the_reader_of_imports_sees_them(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import torch\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import av\n"
        "class A:\n    import whisper\n    def f(self):\n        from spark_trainer import gpu\n",
        encoding="utf-8",
    )
    seen = {(found.module, found.top) for found in imports(path)}
    assert seen == {
        ("torch", True),
        ("typing.TYPE_CHECKING", True),
        ("whisper", True),
        ("spark_trainer.gpu", False),
    }


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_layers(name: str) -> None:
    allowed = MAY_IMPORT[name] | {name, "errors", "__version__"}
    wrong = [f for f in OURS if part(f.file) == name and f.module.split(".")[1] not in allowed]
    assert not wrong, "\n".join(map(str, wrong))


def imported(found: Import) -> Path | None:
    """The file of ours that an import reads: a module, or the package that holds the name."""
    names = found.module.split(".")[1:]
    while names:
        path = PACKAGE.joinpath(*names)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
        names.pop()
    return None


@pytest.mark.parametrize("name", ["config", "data", "graph", "steps"])
def test_no_circles(name: str) -> None:
    """Imports inside functions count."""
    waits: dict[Path, set[Path]] = {path: set() for path in MODULES if part(path) == name}
    for found in OURS:
        target = imported(found)
        if found.file in waits and target in waits and target != found.file:
            waits[found.file].add(target)
    while free := {path for path, others in waits.items() if not others & waits.keys()}:
        waits = {path: others for path, others in waits.items() if path not in free}
    assert not waits, ", ".join(str(path.relative_to(ROOT)) for path in waits)


def test_no_step_is_named_outside_its_home() -> None:
    """Whoever runs, records and seals steps, or asks about them, takes them as they come."""
    homes = {PACKAGE / "steps" / f"{step}.py" for step in steps.STEPS}
    homes |= {PACKAGE / "steps" / name for name in ("person.py", "transcribing.py")}
    general = {path for path in MODULES if part(path) in ("steps", "graph")} - homes
    for path in {*general, PACKAGE / "data/layout.py"}:
        words = {
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not words & set(steps.STEPS), path.name


def test_a_family_imports_no_other_family() -> None:
    names = {path.stem for path in (PACKAGE / "families").glob("*.py")} - {"__init__"}
    wrong = [
        found
        for found in OURS
        if part(found.file) == "families"
        and found.module.startswith("spark_trainer.families.")
        and found.module.split(".")[2] in names - {found.file.stem}
    ]
    assert names
    assert not wrong, "\n".join(map(str, wrong))


def test_the_loop_knows_no_family_by_name() -> None:
    names = {path.stem for path in (PACKAGE / "families").glob("*.py")} - {"__init__"}
    for path in sorted((PACKAGE / "train").glob("*.py")):
        words = {
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not words & names, f"{path.name} names a family"
        modules = {found.module for found in imports(path)}
        assert not {f"spark_trainer.families.{name}" for name in names} & modules, path.name


def test_heavy_imports_are_inside_functions() -> None:
    wrong = [
        found
        for found in IMPORTS
        if found.top
        and part(found.file) not in HEAVY_AT_TOP
        and found.module.split(".")[0] in HEAVY
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_nothing_imports_snakemake() -> None:
    wrong = [found for found in IMPORTS if found.module.split(".")[0] == "snakemake"]
    assert not wrong, "\n".join(map(str, wrong))


def test_only_the_command_line_starts_snakemake() -> None:
    starters = [
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == "snakemake"
    ]
    assert starters == ["cli/commands.py"]


def test_parsing_the_rules_imports_nothing_heavy() -> None:
    """The very imports of the rules, then what they compute while Snakemake parses them."""
    lines = [
        line
        for path in RULES
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert any("spark_trainer" in line for line in lines)
    code = "\n".join(
        [
            *lines,
            "import sys",
            "from pathlib import Path",
            "from spark_trainer import config, steps",
            "assert steps.fingerprints(config.read(Path('config/config.yaml')))",
            f"heavy = {sorted(HEAVY)!r}",
            "print(*(name for name in heavy if name in sys.modules))",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


@pytest.mark.parametrize("step", steps.STEPS)
def test_one_word_names_a_step_everywhere(step: str) -> None:
    assert step in config.Config.model_fields
    assert (PACKAGE / "config" / f"{step}.py").is_file()
    assert (PACKAGE / "steps" / f"{step}.py").is_file()
    assert (ROOT / "tests/steps" / f"test_{step}.py").is_file()
    rules = (ROOT / "rules" / f"{step}.smk").read_text(encoding="utf-8")
    assert re.search(rf"^rule {step}:", rules, re.MULTILINE)
    assert f"logs/{step}/" in rules


def test_sections_stand_in_pipeline_order() -> None:
    fields = [name for name in config.Config.model_fields if name in steps.STEPS]
    assert tuple(fields) == steps.STEPS
    included = re.findall(r'include: "rules/(\w+)\.smk"', (ROOT / "Snakefile").read_text())
    assert tuple(name for name in included if name in steps.STEPS) == steps.STEPS
    assert {path.stem for path in RULES} == set(included)


def rules_of(path: Path) -> dict[str, str]:
    """Rule name -> its text."""
    head = r"^(?:rule|use rule \w+ as) (\w+)(?: with)?:\n"
    pieces = re.split(head, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_job_has_its_environment_and_log(path: Path) -> None:
    for name, text in rules_of(path).items():
        assert "run:" not in text, name
        if "shell:" not in text:
            continue
        found = re.search(r'conda:\n\s+"([^"]+)"', text)
        assert found, f"{name} has no conda file"
        assert (path.parent / found[1]).is_file(), f"{name}: no such file: {found[1]}"
        assert "log:" in text, f"{name} has no log"


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments_agree_with_what_is_installed(path: Path) -> None:
    dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    pins = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    assert pins
    for pin in pins:
        name, _, version = pin.partition("==")
        assert metadata.version(name).partition("+")[0] == version, pin


def test_files_stay_short() -> None:
    def length(path: Path) -> int:
        return len(path.read_text(encoding="utf-8").splitlines())

    assert length(ROOT / "Snakefile") <= 60
    assert length(ROOT / "rules/common.smk") <= 125
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    assert scripts
    assert not [path.name for path in scripts if length(path) > 30]
    long = [
        f"{name}: {len(text.splitlines())} lines"
        for path in RULES
        for name, text in rules_of(path).items()
        if len(text.splitlines()) > 35
    ]
    assert not long


def test_functions_stay_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert not long
