"""The folder of an export: nothing of the user's is lost, and it is whole or not there."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spark_trainer.errors import UserError
from spark_trainer.exports import places

from .conftest import ALL, VIDEOS, Store, contents

# Kills itself as the n-th video is copied; the rest is the command as it is.
KILLED = """
import os, shutil, signal, sys
from spark_trainer import cli
copy, left = shutil.copyfile, [int(sys.argv.pop(1))]
def copying(*paths):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), getattr(signal, sys.argv[-1]))
    return copy(*paths)
shutil.copyfile = copying
cli.main(sys.argv[1:-1])
"""


def test_what_a_user_has_there_is_not_overwritten(store: Store) -> None:
    folder = store.exports / "data"
    folder.mkdir(parents=True)
    store.export("ltx")  # an empty folder is taken
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already, and is no export; expected another"):
        store.export("ltx")
    shutil.rmtree(folder)
    folder.write_text("mine")
    with pytest.raises(UserError, match="is there already, and is no folder"):
        store.export("ltx")
    folder.unlink()
    folder.symlink_to(store.videos)
    with pytest.raises(UserError, match="is no folder"):
        store.export("ltx")
    assert (store.videos / "a/clip.mp4").exists()


def test_what_was_added_or_edited_is_not_overwritten(store: Store) -> None:
    folder = store.export("ltx", split=ALL).folder
    cached = folder / ".precomputed/latents/0.pt"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"latents")
    assert store.export("ltx", split=ALL).new is False
    store.write({name: facts | {"caption": "Other."} for name, facts in VIDEOS.items()})
    with pytest.raises(UserError, match=r"holds 1 files that no export wrote: \.precomputed/lat"):
        store.export("ltx", split=ALL)
    shutil.rmtree(folder / ".precomputed")
    card = folder / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + "Ours.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"would lose what was edited: README\.md"):
        store.export("ltx", split=ALL)
    card.unlink()  # what is gone can't be lost
    assert store.export("ltx", split=ALL).new is True
    assert places(store.layout) == [folder]


def test_made_again_where_a_file_is_gone(store: Store) -> None:
    folder = store.export("llava", split=ALL).folder
    before = dict(contents(folder))
    (folder / "train" / store.clip(b"a/clip.mp4")).unlink()
    assert store.export("llava", split=ALL).new is True
    assert dict(contents(folder)) == before


def test_a_damaged_note_is_named(store: Store) -> None:
    folder = store.export("txt").folder
    (folder / ".spark_export.json").write_text("{")
    with pytest.raises(UserError, match=r"\.spark_export\.json is damaged; remove "):
        store.export("txt")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("before", [False, True], ids=["first", "again"])
def test_killed_midway_it_is_the_old_one_or_none(store: Store, name: str, before: bool) -> None:
    (store.exports.parent / "config.yaml").write_text("output_dir: out\nvideo_dir: videos\n")
    folder = store.exports / "data"
    old = dict(contents(store.export("ltx", media="copy").folder)) if before else {}
    store.write({name: facts | {"caption": "Other."} for name, facts in VIDEOS.items()})
    words = ["export", "--config", "config.yaml", "--to", "ltx", "--media", "copy"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "3", *words, "--out", str(folder), name],
        cwd=store.exports.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (-signal.SIGKILL if name == "SIGKILL" else 130), done.stderr
    assert dict(contents(folder)) == old
    assert store.export("ltx", media="copy").new is True
    assert [path.name for path in store.exports.iterdir()] == ["data"]


def test_a_full_disk_leaves_the_old_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own error, at the second video."""
    folder = store.export("ltx", media="copy").folder
    old = dict(contents(folder))
    store.write({name: facts | {"caption": "Other."} for name, facts in VIDEOS.items()})
    copy, copied = shutil.copyfile, list[Path]()

    def full(source: Path, target: Path) -> None:
        copied.append(target)
        if len(copied) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        store.export("ltx", media="copy")
    assert error.value.filename == str(folder)
    assert dict(contents(folder)) == old
    assert [path.name for path in store.exports.iterdir()] == ["data"]
