"""What holds of every format: same bytes, links or copies, nobody left out in silence."""

import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from spark_trainer import exports
from spark_trainer.config import ConfigError, Export
from spark_trainer.config.exports import FORMATS, Format
from spark_trainer.data.dataset import split_of
from spark_trainer.data.files import file_digest
from spark_trainer.errors import MachineError, UserError
from spark_trainer.exports import formats

from .conftest import ALL, VIDEOS, Store, contents

NAMES = get_args(Format)
HALF = {"validation": 0.4, "test": 0.2, "seed": 1}
TEXTLESS = {"fiftyone", "parquet", "videofolder"}
SPOKEN = {"srt", "vtt"}
ENDINGS = {"diffusion-pipe": {b"no ending"}, "simpletuner": {b"no ending"}}


def test_a_module_is_a_format() -> None:
    assert {name.replace("-", "_") for name in NAMES} == {
        path.stem for path in FORMATS.glob("[!_]*.py")
    }
    options = {option for name in NAMES for option in formats.find(name).options}
    assert options == set(exports.OF_SOME)


def left_out(to: str) -> set[bytes]:
    """The videos that a format can't take."""
    if to in TEXTLESS:
        return set()
    wanted = "segments" if to in SPOKEN else "caption"
    lacking = {name for name, said in VIDEOS.items() if not said.get(wanted)}
    return lacking | ENDINGS.get(to, set())


@pytest.mark.parametrize("to", NAMES)
def test_the_same_store_and_settings_leave_the_same_bytes(store: Store, to: str) -> None:
    """All videos are there, or are counted and named; the split is that of a run."""
    made = store.export(to, split=HALF)
    first = dict(contents(made.folder))
    assert store.export(to, split=HALF).new is False
    shutil.rmtree(made.folder)
    store.exports.joinpath("other").mkdir()
    again = store.export(to, split=HALF)
    assert dict(contents(again.folder)) == first
    settings = Export(to=to, split=HALF).split
    kept = VIDEOS.keys() - left_out(to)
    splits = [split_of(store.hashes[name], settings) for name in kept]
    assert made.note.videos == {name: splits.count(name) for name in dict.fromkeys(splits)}
    shown = {name.decode("utf-8", "replace") for name in left_out(to)}
    assert {name for name, _ in made.note.left_out} == shown
    card = first["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["tags"] == ["video"]
    assert file_digest(store.layout.manifest) in card
    assert (f"## Left out: {len(shown)}" if shown else "No video of the manifest is left") in card
    assert "| CC-BY | 1 |" in card or to in SPOKEN
    if shown:
        assert f"left out: without {'transcript' if to in SPOKEN else 'caption'}: " in "\n".join(
            made.told()
        )


@pytest.mark.parametrize("to", NAMES)
@pytest.mark.parametrize("media", ["link", "copy", "none"])
def test_links_copies_or_neither(store: Store, to: str, media: str) -> None:
    if media not in formats.find(to).media:
        with pytest.raises(ConfigError, match=rf"exports.data.media: expected .* to: {to} "):
            store.export(to, media=media)
        return
    made = store.export(to, media=media, split=ALL)
    folder, kept = made.folder, VIDEOS.keys() - left_out(to)
    if media == "none" and formats.find(to).paths:  # JSON can't spell where it is
        unspelled = b"not \xff utf-8.mp4"
        assert unspelled.decode("utf-8", "replace") in [name for name, _ in made.note.left_out]
        kept -= {unspelled}
    if to not in ("parquet", "webdataset"):
        videos = [folder / "train" / store.clip(name) for name in kept]
        assert [path.exists() for path in videos] == [media != "none"] * len(kept)
        assert {path.is_symlink() for path in videos} == {media == "link"}
    if to == "parquet":  # compressed; test_read_back.py reads it
        return
    whole = b"".join(content for _, content in contents(folder))
    assert all((b"video " + name in whole) == (media != "none") for name in kept)


def test_files_are_named_by_hash_or_after_themselves(store: Store) -> None:
    """Names of one spelling get a part of the hash, whatever the folder that they came from."""
    folder = store.export("txt", media="link", names="source", split=ALL).folder
    first, second = (store.hashes[name][:12] for name in (b"a/clip.mp4", b"b/clip.MP4"))
    assert sorted(path.name for path in (folder / "train").glob("*.txt")) == sorted(
        [
            *(f"clip-{first}.txt", f"clip-{second}.txt", "new_line.txt", "no_ending.txt"),
            *("not_utf-8.txt", "spaces_and_dots_quotes.txt"),
        ]
    )
    assert (folder / f"train/clip-{second}.mp4").read_bytes() == b"video b/clip.MP4"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"to": "llava", "shard_mb": 3}, "exports.data.shard_mb: expected none"),
        ({"to": "txt", "text": {"each": "questions"}}, "exports.data.text.each: expected none"),
        ({"to": "ltx", "resolution": [64, 64]}, "exports.data.resolution: expected none"),
    ],
)
def test_an_option_of_another_format_is_refused(
    store: Store, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        store.export(**keys)


def test_nothing_to_export_is_an_error_that_says_why(store: Store) -> None:
    said = {name: facts | {"caption": None} for name, facts in VIDEOS.items()}
    store.write(said)
    with pytest.raises(UserError, match=r"exports\.data: none of the videos .* caption: 7"):
        store.export("ltx")
    assert not store.exports.exists() or not any(store.exports.iterdir())


@pytest.mark.parametrize("to", ["llava", "llamafactory", "ms-swift"])
@pytest.mark.parametrize("tag", ["<video>", "<image>"])
def test_a_text_that_would_be_taken_for_a_video_is_left_out(
    store: Store, to: str, tag: str
) -> None:
    """These tools count the tags of all turns, and stop where there are more than videos."""
    said = {"caption": f"It says {tag}."}
    store.write({b"a/clip.mp4": VIDEOS[b"a/clip.mp4"], b"no ending": said})
    made = store.export(to, split={"validation": 0})
    assert made.note.videos == {"train": 1}
    reason = f"its text holds {tag}, which the tool takes for a medium"
    assert made.note.left_out == [("no ending", reason)]


def test_a_transcript_without_times_is_no_subtitle(store: Store) -> None:
    said = {b"a/clip.mp4": {"transcript": "Hello", "segments": []}, b"no ending": {"segments": []}}
    store.write(said | {name: VIDEOS[name] for name in VIDEOS if VIDEOS[name].get("segments")})
    assert {*map(tuple, store.export("srt").note.left_out)} == {
        ("a/clip.mp4", "its transcript has no times"),
        ("no ending", "without transcript"),
    }


def test_a_video_that_changed_stops_it(store: Store) -> None:
    store.add(b"a/clip.mp4", b"other content")
    with pytest.raises(MachineError, match=r"a/clip\.mp4 changed; build the manifest anew"):
        store.export("ltx")
    (store.videos / "a/clip.mp4").unlink()
    with pytest.raises(MachineError, match="No such file or directory; build the manifest anew"):
        store.export("ltx")


def test_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no manifest yet"):
        Store(tmp_path).export("txt")
