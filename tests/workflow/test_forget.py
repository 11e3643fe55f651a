"""A video goes from a store and from the runs that saw it, and does not come back."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.families import tiny_pipelines

from .conftest import Clips, Workspace, three, without_training

pytestmark = pytest.mark.long

SMALL: dict[str, Any] = {
    "model_type": "diffusion",
    "clip": {"num_frames": 4, "fps": 4, "source": "video", "sizes": [[32, 32]]},
    "text": {"answer": "a film of {source_path}"},
    "split": {"validation": 0, "validation_paths": ["c*", "d*"]},
    "batch_size": 1,
    "max_steps": 1,
    "num_samples": 2,
    "num_sampling_steps": 2,
    "num_workers": 0,
    "allow_cpu": True,
    "min_gpus": 0,
    "gpus": 0,
}
# Kills the process at its n-th removal or renaming of something that is called so, or says what
# there was to remove or rename.
KILLED = """
import os, runpy, signal, sys
left, called = int(sys.argv.pop(1)), sys.argv.pop(1)
def hook(event, arguments):
    global left
    if event not in ("os.remove", "os.rmdir", "os.rename"):
        return
    name = str(arguments[0])
    if called in name and ".pyc" not in name:
        print("removal:", name, file=sys.stderr)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
runpy.run_module("spark_trainer", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory, clips: Clips) -> Workspace:
    """Three clips, and an AnimateDiff that has seen them."""
    workspace = three(tmp_path_factory.mktemp("learnt"), clips)
    pipeline = tiny_pipelines.animatediff(tmp_path_factory.mktemp("pipeline"))
    workspace.configure("train", runs={"first": {}}, model_name=str(pipeline), **SMALL)
    assert workspace.build("train")["train_run"] == 1
    return workspace


@pytest.fixture
def store(learnt: Workspace, tmp_path: Path) -> Workspace:
    """A copy whose further runs train nothing."""
    return learnt.copy(tmp_path / "here", without_training(tmp_path / "tree"))


def forget(workspace: Workspace, *words: str) -> str:
    done = workspace.call("forget", "clips/dog.mp4", "--reason", "no consent", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(workspace: Workspace) -> Iterator[Path]:
    for folder in ("out", "runs"):
        yield from (path for path in (workspace.folder / folder).rglob("*") if path.is_file())


def contents(workspace: Workspace) -> dict[str, str]:
    """Path -> digest of every file of the store and of the runs."""
    return {
        path.relative_to(workspace.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files(workspace)
        if path.suffix != ".log"
    }


def traces(workspace: Workspace, what: str) -> set[str]:
    """The files that hold some text, or are called so, what is compressed among them."""
    found = set()
    for path in files(workspace):
        held = path.read_bytes()
        content = gzip.decompress(held) if path.suffix == ".gz" else held
        name = path.relative_to(workspace.folder).as_posix()
        if what.encode() in content or what in name:
            found.add(name)
    return found


def test_nothing_of_it_is_left(store: Workspace) -> None:
    """Neither by hash nor by content, also after a build; what stays is listed here whole."""
    video, digits = store.place("dog")[3:], 12  # as logs name it
    [run] = (path.name for path in store.folder.glob("runs/first-*"))
    shown = [one for one in json.loads(sample_list(store).read_text()) if one["video"] == video]
    assert shown
    assert store.call("report").returncode == 0
    own = {digest for path, digest in contents(store).items() if video in path}
    beside = sample_list(store).parent.relative_to(store.folder)
    own |= {contents(store)[f"{beside}/{one['file']}"] for one in shown}
    assert len(own) > 5
    kinds = {path.split("/")[2] for path in traces(store, video) if path.startswith("out/.spark")}
    lists = {"index", "index.json", "manifests", "report", "sealed", "seen", "shards", "videos"}
    assert kinds == lists
    assert "out/report.html" in traces(store, video)
    assert run in forget(store, "--yes")
    stays = {f"out/forgotten/{video}.json", f"runs/{run}/lineage.json"}
    assert traces(store, video[:digits]) == stays
    assert traces(store, "dog.mp4") <= {*stays, f"runs/{run}/config.yaml"}
    assert store.snakemake("manifest").status == 0
    assert traces(store, video[:digits]) == stays
    assert not [path for path, digest in contents(store).items() if digest in own]
    assert (store.clips / "dog.mp4").is_file()
    assert store.build() == {}


def sample_list(workspace: Workspace) -> Path:
    return sorted(workspace.folder.glob("runs/first-*/samples/*.json"))[-1]


def test_it_does_not_come_back(store: Workspace) -> None:
    """Under no name, and nothing is made again of those that stay."""
    video = store.place("dog")
    forget(store, "--yes")
    (store.clips / "other.mp4").write_bytes((store.clips / "dog.mp4").read_bytes())
    stood = [folder.stat().st_mtime_ns for folder in sorted(store.output.glob("??/*/frames"))]
    outcome = store.snakemake("manifest")
    assert outcome.status == 0
    made = [folder.stat().st_mtime_ns for folder in sorted(store.output.glob("??/*/frames"))]
    assert made == stood
    assert "'clips/other.mp4': forgotten on" in outcome.stderr
    assert "no consent" in outcome.stderr
    assert len(store.manifest()) == 2
    assert video not in store.manifest()
    told = json.loads(store.call("lineage", "clips/other.mp4", "--json").stdout)
    assert told["forgotten"]["reason"] == "no consent"
    assert [*told["runs"].values()] == ["validation"]


def test_saying_what_would_go_removes_nothing(store: Workspace) -> None:
    before = contents(store)
    forget(store, "--dry-run")
    assert contents(store) == before
    assert store.call("forget", "clips/dog.mp4").returncode == 1  # nobody can be asked
    assert contents(store) == before


def test_a_file_that_has_changed_is_named_by_a_hash(built: Workspace) -> None:
    """What was made of its earlier content would else stay, with nothing said."""
    video = built.place("dog")[3:]
    with open(built.clips / "dog.mp4", "ab") as file:
        file.write(b"\0\0\0\x08free")
    now = built.place("dog")[3:]
    before = contents(built)
    for name in ("clips/dog.mp4", "dog.mp4"):
        done = built.call("forget", name, "--yes")
        assert done.returncode == 1
        assert "has changed" in done.stderr
        assert video in done.stderr
        assert now in done.stderr
    assert contents(built) == before
    done = built.call("forget", video, "--yes")
    assert "its file stays" not in done.stdout  # it holds another video
    assert traces(built, video) == {f"out/forgotten/{video}.json"}
    assert len(built.build()) > 0
    assert now in "".join(built.manifest())


def test_what_the_user_wrote_is_named(built: Workspace) -> None:
    video = built.place("dog")[3:]
    page = built.output / "mine.html"
    page.write_text(f"<p>{video}")
    (built.output / built.place("dog") / "notes.txt").write_text("mine")
    told = forget(built, "--yes")
    assert f"goes what SparkTrainer did not write:\n  out/{built.place('dog')}/notes.txt" in told
    assert "did not write, which stays:\n  out/mine.html" in told
    assert page.is_file()
    assert not (built.output / built.place("dog")).exists()
    assert not (built.output / video[:2]).exists()


def test_a_video_of_which_nothing_is_known(built: Workspace) -> None:
    before = contents(built)
    done = built.call("forget", "0" * 64, "--dry-run")
    assert "nothing here derives from it" in done.stdout
    assert contents(built) == before


def test_a_folder_that_is_named_after_a_file(fresh: Workspace) -> None:
    """It is known by its records, where nothing else tells of a video that is gone."""
    fresh.config["deterministic_layout"] = False
    fresh.build()
    video = fresh.place("dog")[3:]
    (fresh.clips / "dog.mp4").unlink()
    fresh.build()
    for listed in fresh.output.glob(".spark/shards/*.json"):
        listed.unlink()
    done = fresh.call("forget", video, "--yes")
    assert done.returncode == 0, done.stderr
    assert traces(fresh, video) == {f"out/forgotten/{video}.json"}
    assert not (fresh.output / "dog").exists()
    assert (fresh.output / "cup/audio.wav").is_file()


def removals(workspace: Workspace, *words: str) -> list[str]:
    """Call a command that nobody kills; returns what it removed and renamed."""
    done = workspace.call(str(10**6), "", *words, program=("-c", KILLED))
    assert done.returncode == 0, done.stderr
    return re.findall(r"^removal: (.*)$", done.stderr, re.MULTILINE)


def kill(workspace: Workspace, removed: list[str], share: float, called: str, *words: str) -> None:
    """Call a command, and kill it when it has removed this share of the things called so."""
    number = 1 + int(share * sum(called in name for name in removed))
    died = workspace.call(str(number), called, *words, program=("-c", KILLED))
    assert died.returncode == -9


@pytest.fixture(scope="module")
def whole(
    learnt: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, list[str]]:
    """A copy from which the video went at once, and what was removed."""
    folder = tmp_path_factory.mktemp("whole")
    workspace = learnt.copy(folder / "here", without_training(folder / "tree"))
    return workspace, removals(workspace, "forget", "clips/dog.mp4", "--yes")


# Within what names the video beside others, and half-way through all.
KILLS = [(0.2, ""), (0.5, ""), (0.8, ""), (0, "forgotten/."), (0, "samples/."), (0, "events.out")]


@pytest.mark.parametrize(("share", "called"), [*KILLS, (0, "spark_trainer.log")])
def test_a_call_that_was_killed_is_finished_by_the_next(
    store: Workspace, whole: tuple[Workspace, list[str]], share: float, called: str
) -> None:
    kill(store, whole[1], share, called, "forget", "clips/dog.mp4", "--yes")
    assert store.call("forget", "clips/dog.mp4", "--yes").returncode == 0

    def kept(workspace: Workspace) -> dict[str, str]:
        of_time = re.compile(r"forgotten/[^.]|lineage\.json$|\.holder$|\.log$")
        return {k: v for k, v in contents(workspace).items() if not of_time.search(k)}

    assert kept(store) == kept(whole[0])
