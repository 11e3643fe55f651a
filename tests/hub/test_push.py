"""A hub gets the bytes of a run or an export, those alone, and nobody sees what should be private.

The hub's own client speaks to a server that keeps what it is sent.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from spark_trainer.cli import main
from spark_trainer.data.forgotten import Tombstone
from spark_trainer.runs.folder import RunFolder
from tests.exports.conftest import Store
from tests.store.test_lineage import KEPT, write

from .server import COMMIT, TOKEN, Hub, Repository

ROOT = Path(__file__).resolve().parents[2]
TO = "me/mine"
Captured = pytest.CaptureFixture[str]


def push(*words: str, to: str = TO) -> int:
    """Type the command; returns its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(["push", *words, "--to", to, "--config", "config.yaml"])
    return int(ended.value.code or 0)


def on_disk(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_run_goes_whole_and_private(hub: Hub, run: RunFolder, capsys: Captured) -> None:
    """But for what was heard in the user's videos; the card's lines load it from the hub."""
    assert push("slow") == 0
    said = capsys.readouterr()
    assert said.out == f"{hub.url}/{TO}/commit/{COMMIT}\n"
    assert "licence of the base: not known" in said.err
    assert "learnt from or measured on 1 videos; licences: not known: 1" in said.err
    there, here = hub.repositories[f"models/{TO}"], on_disk(run.final)
    assert there.private
    assert here.pop("wer.json")
    card = here.pop("README.md").decode().replace('"final"', f'"{TO}"')
    got = dict(there.branches["main"])
    assert got.pop("README.md").decode() == card
    assert f'from_pretrained("{TO}")' in card
    assert got == here
    assert ModelCard(card).data.eval_results[0].metric_value == 12.5
    assert hub.puts == len(hub.stored) > 0


def test_a_run_goes_to_a_branch_for_everybody(hub: Hub, run: RunFolder) -> None:
    assert push(str(run), "--public", "--revision", "v2") == 0
    there = hub.repositories[f"models/{TO}"]
    assert not there.private
    assert not there.branches["main"]
    assert "model.safetensors" in there.branches["v2"]
    card = there.branches["v2"]["README.md"].decode()
    assert f'from_pretrained("{TO}", revision="v2")' in card


def test_an_export_goes_with_its_videos(hub: Hub, store: Store, capsys: Captured) -> None:
    """A link's video goes, a file that came to the folder later does not, nor the note."""
    made = store.export("videofolder", media="link", names="source")
    (made.folder / "cache.bin").write_text("a trainer's")
    assert push(str(made.folder)) == 0
    assert (
        "licences, as their own facts tell them: not known: 6, CC-BY: 1" in capsys.readouterr().err
    )
    here = on_disk(made.folder)
    del here["cache.bin"], here[".spark_export.json"]
    assert hub.repositories[f"datasets/{TO}"].branches["main"] == here
    assert sum(name.endswith((".mp4", ".mov", ".mkv")) for name in here) >= 6


def test_only_what_is_not_there_is_sent_again(hub: Hub, store: Store, capsys: Captured) -> None:
    """The second call of an upload that was cut short sends what is missing."""
    made = store.export("webdataset", shard_mb=1)
    hub.refuse = {"POST /api/datasets/me/mine/commit": 403}
    assert push(str(made.folder)) == 1
    assert f"this token may not write to {TO}" in capsys.readouterr().err
    sent, hub.refuse = hub.puts, {}
    assert push(str(made.folder)) == 0
    assert hub.puts == sent > 0
    files = hub.repositories[f"datasets/{TO}"].branches["main"]
    assert {name: files[name] for name in made.note.files} == {
        name: (made.folder / name).read_bytes() for name in made.note.files
    }


def test_what_else_is_there_stays_and_is_named(hub: Hub, run: RunFolder, capsys: Captured) -> None:
    hub.repositories[f"models/{TO}"] = Repository(True, {"main": {"old.safetensors": b"x"}})
    assert push("slow") == 0
    assert "there before, and still there: old.safetensors\n" in capsys.readouterr().out


def test_a_dry_run_sends_nothing(hub: Hub, run: RunFolder, capsys: Captured) -> None:
    assert push("slow", "--dry-run") == 0
    said = capsys.readouterr().out
    sizes = {path.name: path.stat().st_size for path in run.final.iterdir()}
    assert said.startswith(f"would go to {TO} (private):\n")
    for name, size in sizes.items():
        assert (f"{size:,}  {name}\n" in said) == (name != "wer.json")
    total = sum(sizes.values()) - sizes["wer.json"]
    assert f"{total:,}  bytes in {len(sizes) - 1} files of " in said
    assert "stays here: wer.json" in said
    assert not hub.asked


def test_what_is_not_finished_or_not_as_it_was_written(
    hub: Hub, run: RunFolder, store: Store, tmp_path: Path, capsys: Captured
) -> None:
    made = store.export("txt")
    write(tmp_path / "runs", "half-2a2b3c4d", [KEPT])
    (run.final / "model.safetensors").write_bytes(b"others")
    next(made.folder.rglob("*.txt")).write_text("edited")
    linked = store.export("videofolder", "linked", media="link").folder
    elsewhere = tmp_path / "secret"
    elsewhere.write_text("secret")
    swapped, changed, *_ = sorted(path for path in linked.rglob("*") if path.is_symlink())
    swapped.unlink()
    swapped.symlink_to(elsewhere)
    changed.resolve().write_bytes(b"another video")
    for what, message in {
        "half": "half-2a2b3c4d is not finished; the command that trains it goes on with it",
        "slow": "final is not what the training wrote: model.safetensors",
        str(made.folder): "data is not as it was made: ",
        str(linked): f"made: train/{swapped.name}, train/{changed.name}; move it away or remove it",
        "videos": "'videos' is neither a run nor an export",
    }.items():
        assert push(what) == 1
        assert message in capsys.readouterr().err
    assert not hub.asked


def test_what_is_no_name_and_no_branch(run: RunFolder, capsys: Captured) -> None:
    """A dry run says so too; nothing goes to `main` because a variable of a shell is empty."""
    for to in ("mine", "a/b/c", "datasets/films", ""):
        assert push("slow", "--dry-run", to=to) == 1
        assert f"--to {to}: expected a user or organization / a name" in capsys.readouterr().err
    for to in ("me/..", "me/x.git", "me/a--b", "me/x\n", f"me/{'x' * 99}", "me/\x1b[31m"):
        assert push("slow", "--dry-run", to=to) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert ascii(to)[1:-1] in line
        assert "\x1b" not in line
    for branch in ("", " ", "../x", "v2\n", "a..b", "-x", 'x"y'):
        assert push("slow", "--dry-run", f"--revision={branch}") == 1
        assert f"--revision {branch!r}: expected a branch" in capsys.readouterr().err


def test_what_comes_while_it_is_sent_stays_here(
    hub: Hub, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = hub.answer

    def later(method: str, path: str, body: bytes) -> tuple[int, Any]:
        (run.final / "notes.txt").write_text("private")
        (run.final / "a\\b").write_text("private")
        return answer(method, path, body)

    monkeypatch.setattr(hub, "answer", later)
    assert push("slow") == 0
    sent = hub.repositories[f"models/{TO}"].branches["main"]
    assert sent.keys() == on_disk(run.final).keys() - {"wer.json", "notes.txt", "a\\b"}


def test_damaged_files_are_named(
    hub: Hub, run: RunFolder, store: Store, tmp_path: Path, capsys: Captured
) -> None:
    told = json.loads(run.summary.read_text())
    for digests in ([1], "x", None):
        run.summary.write_text(json.dumps(told | {"digests": digests}))
        assert push("slow") == 1
        assert f"{run.path.name}: a file in it is damaged" in capsys.readouterr().err
    made = store.export("txt").folder
    note = made / ".spark_export.json"
    told = json.loads(note.read_text())
    (tmp_path / "secret").write_text("secret")
    outside = {"../../secret": None}
    for changed, message in [
        ({"files": ["train"]}, "is damaged; remove"),
        ({"videos": {"train": "x"}}, "is damaged; remove"),
        ({"licences": None}, "is damaged; remove"),
        ({"files": told["files"] | outside}, "is not as it was made: ../../secret"),
    ]:
        note.write_text(json.dumps(told | changed))
        assert push(str(made)) == 1
        assert message in capsys.readouterr().err
    assert not hub.asked


def test_a_forgotten_video_is_told_and_needs_a_flag(
    hub: Hub, run: RunFolder, store: Store, tmp_path: Path, capsys: Captured
) -> None:
    """Where the run saw it, or one that it comes from, or where an export may hold it."""
    write(tmp_path / "runs", "later-2a2b3c4d", [], base_run=run.name)
    (tmp_path / "runs/later-2a2b3c4d/trained.json").write_bytes(run.summary.read_bytes())
    (run.final.rename(tmp_path / "runs/later-2a2b3c4d/final"))
    made = store.export("txt")
    os.utime(made.folder / ".spark_export.json", (0, 0))
    copied = store.export("videofolder", "copied").folder  # it is younger than what was forgotten
    video = store.hashes[b"silent.mkv"]
    for one in (KEPT, video):
        Tombstone(one, "2026-01-02T03:04:05+00:00", "ann", "withdrawn").write(store.layout)
    told = f"{KEPT}, forgotten on 2026-01-02 by ann: withdrawn; "
    for what, message in {
        "later": f"{run.name} saw {told}",
        str(made.folder): f"may hold {told}",
        str(copied): f"may hold {video}, forgotten on 2026-01-02",
    }.items():
        assert push(what) == 1
        said = capsys.readouterr().err
        assert "a forgotten video is in it; expected --with-forgotten:\n" in said
        assert message in said
        assert push(what, "--dry-run") == 0
        assert message in capsys.readouterr().out
    assert not hub.asked
    assert push("later", "--with-forgotten") == 0


def test_what_is_private_does_not_go_where_everybody_sees_it(
    hub: Hub, run: RunFolder, capsys: Captured
) -> None:
    hub.repositories[f"models/{TO}"] = Repository(private=False)
    assert push("slow") == 1
    assert f"{TO} is public; expected --public, or another name" in capsys.readouterr().err
    assert not hub.repositories[f"models/{TO}"].branches["main"]
    assert push("slow", "--public") == 0


def test_who_may_not_write_is_told_what_to_do(
    hub: Hub, run: RunFolder, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    assert push("slow") == 1
    assert (
        "the hub doesn't take this token: `hf auth login`, or HF_TOKEN" in capsys.readouterr().err
    )
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "nowhere")
    hub.asked.clear()
    assert push("slow") == 1
    assert "the hub asks who you are: `hf auth login`, or HF_TOKEN" in capsys.readouterr().err
    assert not hub.asked


def test_trouble_of_the_hub_and_the_network_is_the_machines(
    hub: Hub, run: RunFolder, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refuse = {"GET /api/models": 507}
    assert push("slow") == 75
    assert "the hub answers 507; the same call goes on" in capsys.readouterr().err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        assert push("slow") == 75
    said = capsys.readouterr().err
    assert re.search(r"the hub can't be reached \(.*refused\); the same call goes on", said)


def test_a_hub_that_says_nothing_fails(
    hub: Hub, run: RunFolder, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spark_trainer.hub.push.SILENCE_S", 0.2)
    hub.silence_s = 1.0
    assert push("slow") == 75
    assert "the hub can't be reached (timed out); the same call goes on" in capsys.readouterr().err


def test_what_is_no_hub_and_what_a_hub_says(
    hub: Hub, run: RunFolder, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its words one line is shown, without the token; nothing of it is a bug of ours."""
    asked, commit = "GET /api/models", "POST /api/models/me/mine/commit"
    endless = {"error": f"{TOKEN}\n\x1b[31m" + "x" * 5000}
    for path, status, saying, code, message in [
        (asked, 200, b"<html>log in</html>", 75, "no hub answers there (JSONDecodeError: "),
        (asked, 200, [1], 75, "is HF_ENDPOINT right?"),
        (asked, 200, {}, 75, "is HF_ENDPOINT right?"),
        (asked, 400, {"error": "x", "errors": [1]}, 75, "is HF_ENDPOINT right?"),
        (asked, 400, endless, 1, "the hub answers 400: … \\x1b[31mx"),
        ("POST /api/validate", 400, {"errors": [{"message": "license?"}]}, 1, "- license?"),
        ("PUT /lfs", 403, {}, 1, f"this token may not write to {TO}"),
        (commit, 409, {}, 75, "the hub answers 409; the same call goes on"),
    ]:
        hub.refuse, hub.saying = {path: status}, saying
        assert push("slow") == code
        said = capsys.readouterr().err
        assert message in said
        assert "a bug of SparkTrainer" not in said
        assert TOKEN not in said
        assert len(said.splitlines()[-1]) < 600
    hub.refuse = {}
    for endpoint in ("localhost:1", "ftp://x", "http://[::1"):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        assert push("slow") == 1
        assert "HF_ENDPOINT: expected the address of a hub" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}…")
    assert push("slow") == 1
    assert "the token has characters that none has" in capsys.readouterr().err


def test_as_a_user_types_it(hub: Hub, run: RunFolder) -> None:
    """The client finds the server, the token and the way to send by the environment alone."""
    words = ["push", "slow", "--to", TO, "--config", "config.yaml"]
    told = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "spark_trainer", *words],
        env={**os.environ, **told, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{hub.url}/{TO}/commit/{COMMIT}\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(run.summary.read_text())["digests"].keys() <= (
        hub.repositories[f"models/{TO}"].branches["main"].keys()
    )
