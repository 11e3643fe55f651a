"""The page about a new reward is true: its function and its module score answers."""

import importlib.util
import re
from pathlib import Path

import pytest

from spark_trainer.config import Rft
from spark_trainer.data.sample import Unusable
from spark_trainer.errors import UserError
from spark_trainer.rewards.base import Given
from tests.documented.worked import python, tree_with
from tests.workflow.conftest import REPO

from .asked import asked, group

PAGE = REPO / "docs/new-reward.md"
NAME = "spark_trainer/rewards/chrf.py"
ANSWERS = group("A cat sleeps.", "A cat", "The cat", "A cat that is on the mat")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with what the page adds."""
    tree, made, added = tree_with(PAGE, tmp_path_factory.mktemp("new_reward") / "tree")
    assert made == {"brief.py", NAME}
    assert added == {"spark_trainer/config/rewards.py": 1}
    return tree


def test_the_function_scores_answers(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    [listed] = re.findall(r"reward_funcs: \[(.*)\]", said())
    found = asked(*listed.split(", "), reward_weights=[1.0, 0.5]).scored(ANSWERS)
    assert found.parts["brief"] == pytest.approx((1, 0, 5 / 7))
    assert all(f"| `{name}` |" in said() for name in ("prompts", "completions", "completion_ids"))


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("an error in the function", "/ max(MOST_WORDS, len(words))", "/ 0"),
        ("NaN or infinity", "right *", "float('nan') *"),
        ("too few or too many", "return scores", "return scores[:1]"),
        ("no list", "return scores", "return 1.0"),
        ("another name", "def brief", "def other"),
    ],
)
def test_what_goes_wrong_is_said_as_the_page_says(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, old: str, new: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code = (tree / "brief.py").read_text()
    assert old in code
    Path("brief.py").write_text(code.replace(old, new))
    [message] = re.findall(rf"^\| {what} \| `(.*)` \|$", said(), re.MULTILINE)
    name = "short" if what == "another name" else "brief"
    with pytest.raises(UserError, match=re.escape(message)):
        asked(f"brief.py:{name}").scored(group("A cat sleeps.", "A cat", "The cat"))


def test_the_module_is_a_reward(tree: Path) -> None:
    spec = importlib.util.spec_from_file_location("chrf", tree / NAME)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reward = module.Chrf(Given(Rft()))
    same, less = reward.scores(group("A cat sleeps.", "A cat sleeps.", "A cat"))
    assert same == pytest.approx(1)
    assert 0 < less < 1
    with pytest.raises(Unusable, match="the reference is empty"):
        reward.check("", {})
    test = "tests/rewards/test_combined.py::test_the_names_of_the_configuration_are_the_modules"
    status, printed = python(tree, "pytest", "-n", "0", "-q", test)
    assert status == 0, printed


def said() -> str:
    return PAGE.read_text(encoding="utf-8")
