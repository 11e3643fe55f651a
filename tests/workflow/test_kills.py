"""Kills of single processes of builds and of whole groups: nothing is lost or wrong."""

import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import psutil
import pytest

from .conftest import Workspace, cut
from .test_store import Call, start

KILLS = int(os.environ.get("KILLS", "60"))
MOST_S = 7.5 * KILLS  # from the first kill to the last; half of it on two free cores
RETRIES = "19"  # of a job: a build is to live through more kills than users' builds meet
PAUSE_S = 0.25  # between two kills, on average
TRUCE = 12  # kills after which a build may finish a job
TRUCE_S = 12.0  # at the most
KINDS = (
    *("group", "main", "worker", "worker", "job frames", "job frames", "job audio", "job audio"),
    *("job transcript", "job caption/imagenet-tags", "job select", "job part", "job join"),
)
TIMES = ("made", "seconds", "checksum")  # keys of records that hang on when and how long


def kind(process: psutil.Process) -> str:
    """What a process of a build is: `main`, `job frames`, `worker`, `reader`, `shell`."""
    words = process.info["cmdline"] or ["", "", "", ""]
    if "snakemake" in words[:3]:
        return "main"
    if words[1:3] == ["-m", "spark_trainer"]:
        parent = psutil.Process(process.info["ppid"])
        if parent.cmdline() == words:
            return "reader"
        name = words[3]
        if name == "step":
            name = Path(words[words.index("--settings") + 1]).relative_to("out/.spark/settings")
        return f"job {str(name).split('.')[0]}"
    if any("spark_trainer.system.workers" in word for word in words):
        return "worker"
    return "shell" if Path(words[0]).name == "bash" else "other"


def everyone(workspace: Workspace) -> dict[str, list[psutil.Process]]:
    """The processes at work in a workspace, by kind."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter(["cmdline", "cwd", "ppid", "status"]):
        here = process.info["cwd"] == str(workspace.folder)
        if here and process.info["status"] != psutil.STATUS_ZOMBIE:
            try:
                found.setdefault(kind(process), []).append(process)
            except (psutil.Error, IndexError):  # it ended meanwhile
                continue
    return found


def strike(workspace: Workspace, call: Call, wanted: str, chance: random.Random) -> str | None:
    """Kill a process of a kind, or of another where there is none; returns the kind that it was.

    The kind `group` is Snakemake with all that it started. Nothing is killed, and nothing returned,
    where Snakemake is still alone.
    """
    found = everyone(workspace)
    others = sorted(set(found) - {"main"})
    if call.process.poll() is not None or not others:
        return None
    if wanted == "group":
        alive = [kill(one) for each in found.values() for one in each]
        return wanted if any(alive) else None
    wanted = wanted if wanted in found else chance.choice(others)
    return wanted if kill(chance.choice(found[wanted])) else None


def truce(workspace: Workspace, call: Call) -> None:
    """Let a build finish a job, if it does so soon."""

    def markers() -> set[Path]:
        return set(workspace.output.glob(".spark/sealed/**/*.json*"))

    end, before = time.monotonic() + TRUCE_S, markers()
    while call.process.poll() is None and time.monotonic() < end and markers() <= before:
        time.sleep(0.05)


def kill(process: psutil.Process) -> bool:
    """Kill a process as the kernel does where memory runs out."""
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True


def without_times(value: Any) -> Any:
    """A record without what differs from one making to the next."""
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in TIMES}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def left(folder: Path) -> Iterator[tuple[str, Any]]:
    """Path and content of everything that users see of a store: digests, records without times."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".spark/") or not path.is_file():
            continue
        if path.suffix == ".json":
            yield name, without_times(json.loads(path.read_text(encoding="utf-8")))
        else:
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()


def steps(workspace: Workspace) -> None:
    """Switch the steps on that run models."""
    tiny = {"backend": "faster-whisper", "whisper_model": "offline-tiny.en", "device": "cpu"}
    workspace.configure("transcript", enabled=True, **tiny)
    workspace.configure("caption", enabled=True, captioner_backend="imagenet-tags")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An undisturbed build of three clips in two shards; in one of them somebody speaks."""
    workspace = Workspace(tmp_path_factory.mktemp("calm"))
    made = cut(tmp_path_factory.mktemp("cuts"), ("dog", "cup", "globe-reading"))
    for name, bits in (("dog", "000"), ("cup", "010"), ("globe-reading", "100")):
        workspace.add(name, made.content(name, bits))
    steps(workspace)
    workspace.build()
    return workspace


def nobody_is_rejected(workspace: Workspace) -> None:
    """No good video is given up, and the manifest is whole wherever there is one."""
    for path in workspace.output.glob("??/*/*.json"):
        assert '"status":"rejected"' not in path.read_text(encoding="utf-8"), path
    rejected = workspace.output / "rejected_v1.jsonl"
    assert not rejected.exists() or not rejected.read_bytes()
    manifest = workspace.output / "manifest_v1.jsonl"
    assert not manifest.exists() or len(manifest.read_bytes().splitlines()) == 3


def until_all_ended(workspace: Workspace) -> None:
    """Wait for what a killed build left at work."""
    end = time.monotonic() + 60
    while found := everyone(workspace):
        assert time.monotonic() < end, found
        time.sleep(0.1)


@pytest.mark.long
def test_many_kills(calm: Workspace, tmp_path: Path) -> None:
    """A build that is done is compared with a calm one, and the next begins from nothing."""
    spoken = Workspace(tmp_path, config=deepcopy(calm.config))
    shutil.copytree(calm.clips, spoken.clips)
    wanted = dict(left(calm.output))
    assert "text" in wanted[f"{calm.place('globe-reading')}/transcript.json"]
    chance, kills, ended = random.Random(20), Counter[str](), Counter[str]()
    kinds = chance.sample(KINDS * (KILLS // len(KINDS) + 1), KILLS)
    end, call = time.monotonic() + MOST_S, start(spoken, "manifest", "--retries", RETRIES)
    while kills.total() < KILLS:
        assert time.monotonic() < end, f"{kills}, {ended}"
        time.sleep(chance.expovariate(1 / PAUSE_S))
        if (status := call.process.poll()) is not None:
            ended[{0: "done", -9: "killed"}.get(status, "failed")] += 1
            nobody_is_rejected(spoken)
            if not status:
                until_all_ended(spoken)
                assert dict(left(spoken.output)) == wanted
                shutil.rmtree(spoken.output)
            call = start(spoken, "manifest", "--retries", RETRIES)
        elif killed := strike(spoken, call, kinds[kills.total()], chance):
            kills[killed] += 1
            if kills.total() % TRUCE == 0:
                truce(spoken, call)
    print(f"{kills.total()} kills: {dict(kills)}; builds: {dict(ended)}")
    call.process.wait(timeout=180)
    last = spoken.snakemake("manifest")
    assert last.status == 0, last.stderr
    nobody_is_rejected(spoken)
    until_all_ended(spoken)
    assert dict(left(spoken.output)) == wanted
    assert not list(spoken.folder.rglob("*.tmp"))
    assert not (spoken.output / ".spark/lock").exists()


@pytest.mark.long
def test_what_was_damaged_since_is_made_again(calm: Workspace, tmp_path: Path) -> None:
    """A call finds it where it is read, and the one after that has all as it was."""
    built = calm.copy(tmp_path)
    place = built.output / built.place("globe-reading")
    for path in [*place.glob("frames/*.jpg"), place / "audio.wav"]:
        path.write_bytes(path.read_bytes()[:200])
    for path in (*place.glob("caption/*.json"), place / "transcript.json"):
        path.unlink()
    for marker in built.output.glob(".spark/sealed/**/b1.*"):
        if marker.parent.name in ("transcript", "imagenet-tags", "select", "manifest"):
            marker.unlink()
    (built.output / "manifest_v1.jsonl").unlink()
    outcome = built.snakemake("manifest")
    assert outcome.status != 0
    assert "the next call makes it again" in outcome.stderr.splitlines()[-1]
    nobody_is_rejected(built)
    built.build()
    assert dict(left(built.output)) == dict(left(calm.output))
