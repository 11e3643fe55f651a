"""`spark-trainer` from a folder that holds no workflow: the one inside the wheel does the work."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.wheel import ROOT, User, unpacked

QUIET = ("--set", "transcript.enabled=false", "--set", "caption.enabled=false")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel puts among a user's packages."""
    return unpacked(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def user(tmp_path: Path, installed: Path) -> User:
    (tmp_path / "videos").mkdir()
    shutil.copy(ROOT / "config/demo/clips/dog.mp4", tmp_path / "videos")
    found = User(tmp_path, installed)
    assert found.type("init").returncode == 0
    return found


def test_a_manifest_from_any_folder(user: User) -> None:
    """With the rules of the wheel; what `--set` gives stands beside the log."""
    assert "spark_trainer/workflow" in str(next(user.packages.glob("*/workflow")))
    done = user.type(
        "manifest", *QUIET, "--set", "frame_rate=2", "--cores", "1", "--quiet", "rules"
    )
    assert done.returncode == 0, done.stderr
    assert f"{user.packages}/spark_trainer/workflow" in done.stderr
    text = (user.folder / "data/processed/manifest_v1.jsonl").read_text(encoding="utf-8")
    times = json.loads(text)["meta"]["frame_times"]
    assert times[1] - times[0] == pytest.approx(0.5, abs=0.1)
    [kept] = user.folder.glob("runs/logs/*/config.yaml")
    assert yaml.safe_load(kept.read_text())["frames"] == {"frame_rate": 2}
    assert kept.with_name("spark_trainer.log").is_file()

    planned = user.type("plan", "manifest", *QUIET, "--set", "frame_rate=2")
    assert planned.stdout.startswith("nothing to do"), planned.stderr


@pytest.mark.long
def test_what_else_snakemake_does(user: User) -> None:
    """Its flags reach it, alone on the standard output; a lock is freed."""
    graph = user.type("build", "--dag", *QUIET)
    assert graph.stdout.startswith("digraph snakemake_dag {"), graph.stderr
    assert user.type("build", "--unlock", *QUIET).returncode == 0


def run_ids(text: str) -> set[str]:
    """The runs that a dry run names."""
    return set(re.findall(r"runs/(default-[0-9a-f]{8})", text))


def test_a_set_key_counts_as_one_of_the_file(user: User) -> None:
    """The same run id, by Snakemake's own dry run, which an unknown flag asked for.

    A flag of `train` says the same; it has one meaning under both names of the program.
    """
    words = ("train", "-n", *QUIET, "--set", "train.allow_cpu=true")
    by_flag = user.type(*words, "--set", "train.learning_rate=1e-4")
    by_own = user.type(*words, "--learning-rate", "1e-4", module=True)
    assert run_ids(by_own.stdout + by_own.stderr) == run_ids(by_flag.stdout + by_flag.stderr)
    with open(user.folder / "config/config.yaml", "a", encoding="utf-8") as file:
        file.write("train: {learning_rate: 0.0001}\n")
    by_file, other = user.type(*words), user.type(*words, "--set", "train.learning_rate=1e-5")
    assert by_flag.returncode == 0, by_flag.stderr
    asked, written, changed = (
        run_ids(done.stdout + done.stderr) for done in (by_flag, by_file, other)
    )
    assert asked == written
    assert len(asked | changed) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["build", "--learning-rate", "1"],
            "--learning-rate: expected --set train.learning_rate=…",
        ),
        (["train", "--frame-rate", "1"], "--frame-rate: expected --set frames.frame_rate=…"),
        (["train", "--threads", "2"], "--threads: expected --cores, or --manifest-path as well"),
        (
            ["train", "--manifest-path", "a.jsonl", "--cores", "2"],
            "--cores 2: --manifest-path builds nothing, so Snakemake is not asked",
        ),
        (
            ["plan", "--config", "config/config.yaml", "--configfile", "b.yaml"],
            "--configfile: expected one file (got config/config.yaml and b.yaml); see ",
        ),
        (["manifest", "--frame-rate=1"], "--frame-rate: expected --set frames.frame_rate=…"),
        (["train", "--config", "a=1"], "argument --config: expected a file (got 'a=1'); a key is "),
        (
            ["train", "--config", "none.yaml"],
            "none.yaml: no such file in this folder; `spark-trainer",
        ),
        (["train", "--set", "train.gpus=x"], "--set train.gpus: expected a whole number (got 'x')"),
        (
            ["runs", "--cores", "1"],
            "unrecognized arguments: --cores; see spark-trainer runs --help",
        ),
        (
            ["build", "--resources", "gpu=0", "train"],
            "train: --resources takes NAME=VALUE alone; name targets before flags",
        ),
        (["manifest", "diff"], "manifest: expected"),
    ],
)
def test_what_goes_wrong_is_one_line(user: User, words: list[str], message: str) -> None:
    done = user.type(*words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"spark_trainer: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert not (user.folder / "runs").exists()
