"""What the pages show: every command, word for word, and every YAML."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spark_trainer.config import Config, Run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))),
    *(ROOT / "config/README.md", ROOT / "config/examples/README.md", ROOT / "benchmarks/README.md"),
]
SETTINGS = sorted([*(ROOT / "config").glob("*_example.yaml"), *ROOT.glob("config/examples/*.yaml")])

OURS = r"uv|pip|snakemake|spark-trainer|python|pytest|tests/slurm/cluster\.py"
OTHERS = (
    r"accelerate|apptainer|apt-get|cd|conda|cp|curl|docker|ffmpeg|fuser|git|hf|mkdir|mv|nano|podman"
    r"|rsync|salloc|sbatch|scancel|sinfo|snakedeploy|squeue|srun|ssh|tensorboard|tmux|torchrun|vllm"
)
PROGRAM = rf"(?:[A-Z_]+=\S+ )*(?:{OURS}|{OTHERS})"
LINE = re.compile(rf"^(?: {{4}}|# +)({PROGRAM} .*|\.ci/\w+.*)$", re.MULTILINE)
INLINE = re.compile(rf"`((?!uv run`|uv sync`){PROGRAM} [^`]+)`")
COMMENT = re.compile(r"\s{2,}#.*")

INDENTED = re.compile(r"(?:^ {4}.*\n(?:^\n(?=^ {4}))?)+", re.MULTILINE)
FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ANY_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
KEYS = sorted({*Config.model_fields, *Config.flat_keys, *Run.model_fields})


def commands() -> dict[str, list[str]]:
    """Find the commands, with the pages that show each."""
    found: dict[str, list[str]] = {}
    for path in [*PAGES, *SETTINGS]:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in [*LINE.findall(text), *INLINE.findall(text)]:
            words = re.sub(r"\s+", " ", COMMENT.sub("", line)).strip()
            found.setdefault(words, []).append(path.relative_to(ROOT).as_posix())
    return found


@dataclass(frozen=True)
class Block:
    """A piece of code on a page, and where it stands."""

    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0].strip()}"


def _pieces() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in INDENTED.findall(ANY_FENCE.sub("", text)):
            yield Block(page.name, re.sub(r"^ {4}", "", found, flags=re.MULTILINE))
        for language, found in FENCED.findall(text):
            if language in ("yaml", "python"):
                yield Block(page.name, found)


def yaml_blocks() -> Iterator[Block]:
    """Find what shows a configuration: mappings of its own keys or of a run's."""
    for block in parts():
        if re.match(rf"({'|'.join(KEYS)}):( |\n)", block.text) and "expected" not in block.text:
            yield block


def parts() -> Iterator[Block]:
    """Find the pieces of code, taken apart where a configuration and a command share one."""
    for block in _pieces():
        for text in re.split(r"\n(?=(?:text|train|snakemake)\b)", block.text):
            yield Block(block.page, text)


def python_block(page: str, beginning: str) -> str:
    """Find the code of a page that holds a line with this beginning."""
    [text] = [
        block.text
        for block in _pieces()
        if block.page == page and re.search(rf"^{re.escape(beginning)}", block.text, re.MULTILINE)
    ]
    return text
