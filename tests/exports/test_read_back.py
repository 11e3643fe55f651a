"""Each export as the tool that it is for reads it: by the tool if it is here, else by its rules.

What each tool reads is cited in the format's module; docs/exports.md says what was tried by hand.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data.jsonl import parsed
from spark_trainer.data.questions import Question
from spark_trainer.data.questions import parsed as question
from spark_trainer.speech import subtitles

from .conftest import ALL, QUESTIONS, VIDEOS, Store, lines

CAPTIONED = {name: said["caption"] for name, said in VIDEOS.items() if said.get("caption")}
SPOKEN = b"new\nline.mp4"
HALF = {"validation": 0.4, "seed": 1}
NO_BENCH = "is in the dependency group bench"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def loaded(path: Path, name: str | None = None) -> Any:
    """What `datasets` makes of a folder; videos are not decoded."""
    import datasets

    place = {"data_dir": str(path)} if name else {}
    found = datasets.load_dataset(name or str(path), **place)
    for column in ("video", "mp4"):
        if column in next(iter(found.values())).features:
            found = found.cast_column(column, datasets.Video(decode=False))
    return found


def by_card(made: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the lines of the data card load, in the folder above."""
    monkeypatch.chdir(made.folder.parent)
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    [line] = [line for line in card.splitlines() if "load_dataset(" in line]
    import datasets

    return eval(line.removeprefix("data = "), {"load_dataset": datasets.load_dataset})


@pytest.mark.parametrize("to", ["parquet", "videofolder", "webdataset"])
def test_the_card_loads_it(store: Store, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is called like a kind of data set."""
    store.write({name: VIDEOS[name] for name in (b"a/clip.mp4", b"b/clip.MP4")})
    made = store.export(to, to, split=ALL)
    assert counts(by_card(made, monkeypatch)) == made.note.videos


def counts(found: Mapping[str, Any]) -> dict[str, int]:
    return {split: len(rows) for split, rows in found.items()}


@pytest.mark.parametrize("name", [None, "videofolder"])
def test_videofolder_by_datasets(store: Store, name: str | None) -> None:
    made = store.export("videofolder", split=HALF)
    found = loaded(made.folder, name)
    assert counts(found) == made.note.videos
    rows = [row for split in found.values() for row in split]
    for row in rows:
        assert Path(row["video"]["path"]).read_bytes()[:6] == b"video "
        assert (row["duration"], row["width"]) == (2.0, 64)
        assert json.loads(row["meta"])["caption"] == (row["caption"] or None)
    assert {row["caption"] for row in rows} == {"", *CAPTIONED.values()}
    assert sorted(row["title"] for row in rows) == [*[""] * (len(VIDEOS) - 1), "Rex"]


@pytest.mark.parametrize("media", ["none", "copy"])
def test_parquet_by_datasets_and_pandas(store: Store, media: str) -> None:
    pandas = pytest.importorskip("pandas")
    made = store.export("parquet", split=HALF, media=media)
    found = loaded(made.folder)
    assert counts(found) == made.note.videos
    rows = {row["id"]: row for split in found.values() for row in split}
    for name, said in VIDEOS.items():
        row = rows[store.hashes[name]]
        assert row["caption"] == row["meta"]["caption"] == said.get("caption")
        assert len(row["meta"]["segments"] or ()) == len(said.get("segments") or ())
        assert row["meta"]["views"] == said.get("views")
        if media == "copy":
            assert row["video"] == {"bytes": b"video " + name, "path": store.clip(name)}
    tables = [pandas.read_parquet(made.folder / f"{split}.parquet") for split in made.note.videos]
    assert {*pandas.concat(tables)["caption"].dropna()} == {*CAPTIONED.values()}


def test_webdataset_by_datasets(store: Store) -> None:
    """It reads one kind of file, which the card says where there are several."""
    made = store.export("webdataset", split=ALL)
    assert "The videos are of several kinds (.mp4" in (made.folder / "README.md").read_text()
    kept = {name: said for name, said in VIDEOS.items() if name.lower().endswith(b".mp4")}
    store.write(kept)
    made = store.export("webdataset", split=HALF)
    found = loaded(made.folder)
    assert counts(found) == made.note.videos
    rows = {row["__key__"]: row for split in found.values() for row in split}
    for name, said in kept.items():
        row = rows[store.hashes[name]]
        assert row["mp4"]["bytes"] == b"video " + name
        assert row["txt"] == said["caption"].strip()
        assert json.loads(row["json"]["meta"])["caption"] == said["caption"]


def test_webdataset_by_webdataset(store: Store) -> None:
    webdataset = pytest.importorskip("webdataset", reason=f"webdataset {NO_BENCH}")
    big = store.add(b"big.mp4", bytes(3 * 10**6))
    store.write(VIDEOS | {b"big.mp4": {"caption": "Big."}, b"a/clip.mp4": {"caption": "A dog."}})
    made = store.export("webdataset", split=ALL, shard_mb=1)
    shards = sorted((made.folder / "train").glob("*.tar"))
    assert len(shards) == 2
    seen = {}
    for shard in shards:
        for sample in webdataset.WebDataset(str(shard), shardshuffle=False):
            seen[sample["__key__"]] = sample
    assert len(seen[big]["mp4"]) == 3 * 10**6
    for name in CAPTIONED.keys() - {b"a/clip.mp4"}:
        sample = seen[store.hashes[name]]
        ending = Path(os.fsdecode(name)).suffix.lower().lstrip(".") or "video"
        assert sample[ending] == b"video " + name
        assert sample["txt"].decode() == CAPTIONED[name].strip()


def answers(store: Store, made: Any, path: str, key: str) -> dict[bytes, set[str]]:
    """What lines of JSON say of each video, found by the file that they lead to."""
    found: dict[bytes, set[str]] = {}
    for row in lines(made.folder / path):
        content = (made.folder / row[key]).read_bytes()
        found.setdefault(content.removeprefix(b"video "), set()).add(row["caption"])
    return found


@pytest.mark.parametrize(("to", "key"), [("ltx", "media_path"), ("musubi-tuner", "video_path")])
def test_lines_of_caption_and_path(store: Store, to: str, key: str) -> None:
    made = store.export(to, split=ALL)
    found = answers(store, made, "train.jsonl", key)
    assert found == {name: {caption.strip()} for name, caption in CAPTIONED.items()}


def test_ltx_by_pandas(store: Store) -> None:
    """A caption `None` stays one; in a CSV it would be a missing value."""
    pandas = pytest.importorskip("pandas")
    made = store.export("ltx", split=ALL)
    table = pandas.read_json(made.folder / "train.jsonl", lines=True)
    assert {*table["caption"]} == {caption.strip() for caption in CAPTIONED.values()}


def test_toml_of_musubi_tuner_and_diffusion_pipe(store: Store) -> None:
    sizes = {"resolution": [320, 240], "num_frames": 33}
    made = store.export("musubi-tuner", split=HALF, **sizes)
    for split in made.note.videos:
        told = tomllib.loads((made.folder / f"{split}.toml").read_text(encoding="utf-8"))
        assert told["general"] == {"resolution": [320, 240], "batch_size": 1, "enable_bucket": True}
        [videos] = told["datasets"]
        assert Path(videos["video_jsonl_file"]) == made.folder / f"{split}.jsonl"
        assert not Path(videos["cache_directory"]).is_relative_to(made.folder)
    made = store.export("diffusion-pipe", "pipe", split=HALF, **sizes)
    seen = set()
    for split in made.note.videos:
        told = tomllib.loads((made.folder / f"{split}.toml").read_text(encoding="utf-8"))
        assert (told["resolutions"], told["frame_buckets"]) == ([[320, 240]], [1, 33])
        [videos] = told["directory"]
        seen |= beside(Path(videos["path"]))
    assert seen == {(n, c.strip()) for n, c in CAPTIONED.items() if n != b"no ending"}


def beside(folder: Path) -> set[tuple[bytes, str]]:
    """The videos of a folder, each with the text beside it."""
    videos = [path for path in folder.glob("*") if path.suffix != ".txt"]
    return {
        (
            path.read_bytes().removeprefix(b"video "),
            path.with_suffix(".txt").read_text(encoding="utf-8"),
        )
        for path in videos
    }


def test_simpletuner(store: Store) -> None:
    """Each line of a text is a caption there, so a caption is one."""
    made = store.export("simpletuner", split=ALL)
    videos, texts = json.loads((made.folder / "train.json").read_text(encoding="utf-8"))
    assert (videos["dataset_type"], texts["dataset_type"]) == ("video", "text_embeds")
    wanted = {(name, " ".join(text.split())) for name, text in CAPTIONED.items()}
    seen = beside(Path(videos["instance_data_dir"]))
    assert seen == {one for one in wanted if one[0] not in (b"no ending", b"silent.mkv")}


def asked(store: Store, to: str) -> tuple[Path, list[Any]]:
    """An export of two questions about one video, and its rows."""
    store.write({name: said | {"questions": QUESTIONS} for name, said in VIDEOS.items()})
    text = {"each": "questions", "prompt": "{question}", "answer": "{answer}"}
    made = store.export(to, split=ALL, text=text)
    if to == "ms-swift":
        return made.folder, lines(made.folder / "train.jsonl")
    return made.folder, json.loads((made.folder / "train.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("to", ["llava", "llamafactory", "ms-swift"])
def test_conversations(store: Store, to: str) -> None:
    """Each question is a row; those with `videos` come back by labels.questions."""
    folder, rows = asked(store, to)
    assert len(rows) == 2 * len(VIDEOS)
    pairs = {}
    for row in rows:
        path = row["video"] if to == "llava" else row["videos"][0]
        content = (folder / path).read_bytes()
        turns = row.get("messages") or row["conversations"]
        roles = [turn.get("role") or turn["from"] for turn in turns]
        assert roles == (["user", "assistant"] if to == "ms-swift" else ["human", "gpt"])
        first, second = (turn.get("content") or turn["value"] for turn in turns)
        token = "<image>\n" if to == "llava" else "<video>"
        assert first.startswith(token)
        pairs.setdefault(content, []).append((first.removeprefix(token), second))
        if to != "llava":
            item = {"question": first.removeprefix(token), "answer": second}
            assert question(parsed(json.dumps(row).encode())) == Question(path, item)
    told = [(one["question"], one["answer"]) for one in QUESTIONS]
    assert pairs == {b"video " + name: told for name in VIDEOS}
    if to == "llamafactory":
        info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
        assert info["train"]["file_name"] == "train.json"
        assert {*info["train"]["columns"].values()} <= rows[0].keys()


@pytest.mark.parametrize("to", ["srt", "vtt"])
def test_subtitles(store: Store, to: str) -> None:
    """They come back by labels.transcripts."""
    made = store.export(to, split=ALL)
    path = made.folder / "train" / f"{store.hashes[SPOKEN]}.{to}"
    first, second = subtitles.read(path, "labels.transcripts")
    assert (first.start, first.end) == (0.5, 1.25)
    # SRT has styles, which are not said; VTT spells `<` as HTML does.
    assert first.text == ("Hello you ->" if to == "srt" else "Hello <b>you</b> ->")
    assert (second.start, second.text) == (3600.0, "and you")
    words = store.export(to, "words", split=ALL, each_word=True)
    found = subtitles.read(words.folder / "train" / path.name, "labels.transcripts")
    assert [(cue.start, cue.text) for cue in found][1:] == [(3600.0, "and"), (3600.4, "you")]


def test_fiftyone(store: Store) -> None:
    made = store.export("fiftyone", split=HALF)
    metadata = json.loads((made.folder / "metadata.json").read_text(encoding="utf-8"))
    assert metadata == {"media_type": "video"}
    samples = json.loads((made.folder / "samples.json").read_text(encoding="utf-8"))["samples"]
    assert len(samples) == len(VIDEOS)
    for sample in samples:
        assert (made.folder / sample["filepath"]).exists()
        assert json.loads((made.folder / sample["frames"]).read_text()) == {"frames": {}}
    [said] = [one for one in samples if one["sha256"] == store.hashes[SPOKEN]]
    supports = [one["support"] for one in said["speech"]["detections"]]
    assert supports == [[13, 32], [90001, 90025]]
