"""The seams of the package hold: who may import whom, what stays light, what belongs together."""

import ast
import builtins
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
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

# Part of the package -> the parts that it may import, besides itself and `errors`: the whole
# package, the lowest first, so that arrows point to what stands above.
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "system": set(),
    "losses": set(),
    "metrics": set(),
    "config": set(),
    "media": {"system"},
    "data": {"config", "media", "system"},
    "speech": {"config", "data", "media", "system"},
    "transcribers": {"config", "data", "media", "speech", "system"},
    "families": {
        *("config", "data", "losses", "media", "metrics", "speech", "system", "transcribers"),
    },
    "rewards": {"config", "data", "metrics", "system"},
    "rollouts": {"config", "data", "families", "losses", "system"},
    "methods": {
        *("config", "data", "families", "losses", "metrics", "rewards", "rollouts", "speech"),
        "system",
    },
    "runs": {"config", "data", "families", "metrics", "speech"},
    "captioners": {"config", "data", "families", "system"},
    "detectors": {"config", "data", "system"},
    "steps": {
        *("captioners", "config", "data", "detectors", "media", "metrics", "system"),
        "transcribers",
    },
    "train": {
        *("config", "data", "families", "losses", "methods", "metrics", "runs", "speech", "steps"),
        "system",
    },
    "exports": {"config", "data", "speech", "system"},
    "graph": {"config", "data", "exports", "runs", "steps", "train"},
    "store": {"config", "data", "exports", "graph", "runs", "speech", "steps", "system", "train"},
    "hub": {"data", "exports", "runs", "store", "system"},
    "report": {"config", "data", "metrics", "runs", "store", "system"},
    "preflight": {
        *("captioners", "config", "data", "detectors", "exports", "families", "methods", "speech"),
        *("steps", "system", "train", "transcribers"),
    },
    "cli": {
        *("config", "data", "exports", "graph", "hub", "preflight", "report", "runs", "steps"),
        *("store", "system", "train"),
    },
    "__main__": {"cli"},
}
HEAVY_AT_TOP = {"losses", "train"}  # whoever imports these wants tensors
HEAVY_FILES = {PACKAGE / "families/kinds/attention.py"}  # imported as a model is loaded

# Where a name is at home, beside its own file. Captioners are called like the families that train
# the same checkpoints, and transcribers read those of one; all steps but `select` are words of the
# manifest as well.
COMPONENTS = ("unet", "transformer", "motion_adapter", "vae", "image_encoder")
STEPS_AT_HOME = ("cli/", "config/", "graph/", "steps/", "system/extras.py")
MANIFEST_AT_HOME = (
    *STEPS_AT_HOME,
    *("data/", "exports/", "families/", "report/", "runs/", "speech/"),
)
FAMILIES_AT_HOME = ("captioners/", "config/caption.py", "families/", "speech/", "transcribers/")
COMPONENTS_AT_HOME = ("families/",)

FAMILIES = {path.stem for path in (PACKAGE / "families").glob("*.py")} - {"__init__"}
# What of kinds/ is the same for all of them: the loop asks these alone.
SEAM = {"base", "batch", "export", "generated", "loading", "reading"}


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


def words(path: Path) -> set[str]:
    """Every string of a file."""
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = {module_name(path) for path in MODULES}
IMPORTS = [found for path in MODULES for found in imports(path)]
OURS = [found for found in IMPORTS if found.module.startswith("spark_trainer.")]


def test_the_reader_of_imports_sees_them(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import torch\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import av\n"
        "class A:\n    import whisper\n"
        "    def f(self):\n        from spark_trainer.system import gpu\n",
        encoding="utf-8",
    )
    seen = {(found.module, found.top) for found in imports(path)}
    assert seen == {
        ("torch", True),
        ("typing.TYPE_CHECKING", True),
        ("whisper", True),
        ("spark_trainer.system.gpu", False),
    }


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_layers(name: str) -> None:
    allowed = MAY_IMPORT[name] | {name, "errors", "__version__"}
    wrong = [f for f in OURS if part(f.file) == name and f.module.split(".")[1] not in allowed]
    assert not wrong, "\n".join(map(str, wrong))


def test_every_part_has_its_layer_and_arrows_point_down() -> None:
    assert {part(path) for path in MODULES} == set(MAY_IMPORT)
    above: set[str] = set()
    for name, below in MAY_IMPORT.items():
        assert below <= above, f"{name} -> {below - above}"
        above.add(name)


def test_no_circle_of_modules() -> None:
    """Imports inside functions count."""
    arrows = {
        (module_name(one.file), target)
        for one in OURS
        for target in [one.module if one.module in NAMES else one.module.rpartition(".")[0]]
    }
    graph: dict[str, set[str]] = {}
    for file, target in arrows:
        graph.setdefault(file, set()).add(target)
    TopologicalSorter(graph).prepare()


def test_whoever_loads_weights_asks_for_no_bar() -> None:
    """The process that computes a metric has asked: `metrics` knows nothing of processes."""
    loads = {path for path in MODULES if "use_safetensors=True" in path.read_text("utf-8")}
    asks = {path for path in MODULES if "environment.quiet_libraries()" in path.read_text("utf-8")}
    assert {path.name for path in loads - asks} == {"text.py"}
    assert PACKAGE / "steps/select.py" in asks


def test_every_error_has_one_root() -> None:
    """Whoever catches `SparkTrainerError` catches all that this package raises of its own."""
    bases: dict[str, set[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                bases.setdefault(node.name, set()).update(names)

    def ancestors(name: str) -> set[str]:
        return {name}.union(*map(ancestors, bases.get(name, ())))

    raised = {
        name
        for name in bases
        for base in ancestors(name)
        if isinstance(found := getattr(builtins, base, None), type) and issubclass(found, Exception)
    }
    assert "ConfigError" in raised
    assert not [name for name in raised if "SparkTrainerError" not in ancestors(name)]


@pytest.mark.parametrize(
    ("names", "homes"),
    [
        (sorted(path.stem for path in (PACKAGE / "families").glob("[!_]*.py")), FAMILIES_AT_HOME),
        (["select"], STEPS_AT_HOME),
        (sorted({*steps.STEPS} - {"select"}), MANIFEST_AT_HOME),
        (COMPONENTS, COMPONENTS_AT_HOME),
    ],
    ids=["families", "steps", "steps of the manifest", "components"],
)
def test_names_stay_at_home(names: Sequence[str], homes: tuple[str, ...]) -> None:
    assert names
    said = {path.relative_to(PACKAGE).as_posix(): words(path) for path in MODULES}
    for name in names:
        away = {file for file in said if name in said[file] and not file.startswith(homes)}
        assert not away, name


def test_no_step_is_named_outside_its_home() -> None:
    """Whoever runs and records steps, or asks about them, takes them as they come."""
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
    wrong = [
        found
        for found in OURS
        if part(found.file) == "families"
        and found.module.startswith("spark_trainer.families.")
        and found.module.split(".")[2] in FAMILIES - {found.file.stem}
    ]
    assert FAMILIES
    assert not wrong, "\n".join(map(str, wrong))


def test_the_loop_knows_no_kind() -> None:
    wrong = [
        found
        for found in OURS
        if part(found.file) == "train"
        and found.module.startswith("spark_trainer.families.kinds.")
        and found.module.split(".")[3] not in SEAM
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_the_loop_knows_no_family_by_name() -> None:
    names = FAMILIES | {"vision_language", "diffusion"}
    for path in sorted((PACKAGE / "train").rglob("*.py")):
        assert not words(path) & names, f"{path.name} names a family"
        modules = {found.module for found in imports(path)}
        assert not {f"spark_trainer.families.{name}" for name in names} & modules, path.name


def test_heavy_imports_are_inside_functions() -> None:
    wrong = [
        found
        for found in IMPORTS
        if found.top
        and part(found.file) not in HEAVY_AT_TOP
        and found.file not in HEAVY_FILES
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
    assert starters == ["cli/snakemake.py"]


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


# Of a run folder: what may be written nowhere else, and what is also a plain word.
RUN_FILES = {
    *("run.json", "lineage.json", "manifest.jsonl", "rejected.jsonl", "metrics.jsonl"),
    *("trained.json", "train.log", ".holder"),
}
RUN_NAME = re.compile(rf"(^|/)({'|'.join(map(re.escape, sorted(RUN_FILES)))}|step_[*\[]?)$")
RUN_FOLDERS = {"checkpoints", "final", "nodes", "samples", "tensorboard"}


def test_the_names_in_a_run_folder_stand_in_one_module() -> None:
    home = {"runs/folder.py", "data/layout.py"}  # the latter has those that a search looks for
    wrong = []
    for path in (path for path in MODULES if path.relative_to(PACKAGE).as_posix() not in home):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and RUN_NAME.search(text):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text}")
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                right = node.right.value if isinstance(node.right, ast.Constant) else None
                if right in RUN_FOLDERS:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: / {right!r}")
    assert not wrong, "\n".join(wrong)
    spelled = (PACKAGE / "runs/folder.py").read_text(encoding="utf-8")
    spelled += (PACKAGE / "data/layout.py").read_text(encoding="utf-8")
    assert all(f'"{name}"' in spelled for name in RUN_FILES | RUN_FOLDERS)


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
    files = {path.relative_to(PACKAGE).as_posix() for path in MODULES if length(path) > 300}
    assert not files


def test_functions_stay_short() -> None:
    long = {
        f"{path.relative_to(PACKAGE).as_posix()}: {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 50
    }
    assert not long
