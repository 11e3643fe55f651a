"""What is searched for videos, what is left out of it, and that it is said."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import pytest

from spark_trainer.config import Config, ConfigError, Index, load
from spark_trainer.data.search import Search, find

CLIPS = Path(__file__).resolve().parents[2] / "config/demo/clips"
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()

# Ending -> how such a file is made, where FFmpeg's own choice for the name does not do.
MADE: dict[str, tuple[str, ...]] = {
    ".3g2": ("-c:v", "mpeg4"),
    ".3gp": ("-c:v", "mpeg4"),
    ".divx": ("-f", "avi"),
    ".dv": ("-s", "720x480", "-r", "30000/1001", "-pix_fmt", "yuv411p", "-c:v", "dvvideo"),
    ".m1v": ("-r", "25", "-c:v", "mpeg1video"),
    ".m2t": ("-f", "mpegts"),
    ".m2v": ("-r", "25", "-c:v", "mpeg2video"),
    ".mod": ("-r", "25", "-f", "dvd"),
    ".mpe": ("-r", "25", "-f", "mpeg"),
    ".mpeg": (
        "-r",
        "25",
    ),
    ".mpg": (
        "-r",
        "25",
    ),
    ".mxf": ("-r", "25", "-c:v", "mpeg2video"),
    ".ogm": ("-f", "ogg", "-c:v", "libtheora"),
    ".ogv": ("-c:v", "libtheora"),
    ".qt": ("-f", "mov"),
    ".rm": ("-c:v", "rv20"),
    ".rmvb": ("-f", "rm", "-c:v", "rv20"),
    ".tod": ("-f", "mpegts"),
    ".tp": ("-f", "mpegts"),
    ".trp": ("-f", "mpegts"),
    ".vob": ("-r", "25", "-f", "vob"),
}


def searched(folder: Path | list[Path], **settings: Any) -> Config:
    """A configuration that searches this folder, or these."""
    folders = [str(one) for one in folder] if isinstance(folder, list) else str(folder)
    return load({"video_dir": folders, "output_dir": str(Path("/nowhere/out"))} | settings)


def names(search: Search) -> list[str]:
    return [file.name for file in search.files]


def clip(path: Path) -> Path:
    """Put a clip there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(CLIPS / "dog.mp4", path)
    return path


@pytest.mark.parametrize("ending", Index().extensions)
def test_what_cameras_and_recorders_write_is_found_and_decodes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"clip{ending.upper()}"
    command = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc=s=176x144:r=10:d=1"]
    lower = path.with_name(f"made{ending}")
    subprocess.run([*command, *MADE.get(ending, ()), str(lower)], check=True)
    lower.rename(path)
    assert names(find(searched(tmp_path))) == [path.name]
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 10


def test_other_endings_are_counted(tmp_path: Path) -> None:
    clip(tmp_path / "dog.mp4")
    for name in ("a.jpg", "b.JPG", "c/d.jpg", "notes.txt", "README", "odd.\n"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".cup.mp4").touch()
    (tmp_path / ".notes").touch()
    notes = find(searched(tmp_path)).notes()
    assert notes == [
        r"video_dir: left out by ending: 3 .jpg, 1 '.\n', 1 .txt, 1 without an ending; "
        "index.extensions takes more",
        "video_dir: left out as hidden: 1 with the ending of a video",
    ]


def test_many_endings_fill_no_screen(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"file.{number}").touch()
    [counts, nothing] = find(searched(tmp_path)).notes()
    assert len(counts) < 300
    assert "490 others" in counts
    assert nothing == f"video_dir: no video in {tmp_path}"


@pytest.mark.parametrize("written", ["MP4", ".MP4", "mp4", ".mp4"])
def test_an_ending_may_be_written_any_way(tmp_path: Path, written: str) -> None:
    for name in ("a.mp4", "b.MP4", "c.xmp4", "d.mov"):
        clip(tmp_path / name)
    config = searched(tmp_path, index={"extensions": [written]})
    assert names(find(config)) == ["a.mp4", "b.MP4"]


def test_an_empty_ending_does_not_take_every_file() -> None:
    with pytest.raises(ConfigError, match=r"index\.extensions"):
        searched(Path(), index={"extensions": [""]})


def record(path: Path, **facts: Any) -> None:
    """Write a step's record as a build leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {"step": path.stem, "version": 1, "fingerprint": "f" * 16, "video": "0" * 64}
    path.write_text(json.dumps(made | facts), encoding="utf-8")


def store(folder: Path) -> None:
    """Lay out what builds of both layouts, training and encoding leave."""
    video_hash = "ab" + "0" * 62
    (folder / ".spark/videos").mkdir(parents=True)
    for name in ("manifest_v1.jsonl", "rejected_v1.jsonl", "report.html"):
        (folder / name).touch()
    for place in (folder / f"ab/{video_hash}", folder / "a name"):
        record(place / "frames.json")
        for name in ("pose.mp4", "face.mp4", "mask.mp4"):
            clip(place / "pose" / name)
    clip(folder / "encoded/0123456789abcdef/odd.mp4")


def run_folder(folder: Path) -> None:
    (folder / "final").mkdir(parents=True)
    clip(folder / "samples/step_10.mp4")
    for name in ("run.json", "config.yaml", "metrics.jsonl"):
        (folder / name).touch()


def log_folder(folder: Path) -> None:
    clip(folder / "odd.mp4")
    (folder / "spark_trainer.log").touch()


def export_folder(folder: Path) -> None:
    clip(folder / "train/odd.mp4")
    (folder / ".spark_export.json").touch()


@pytest.mark.parametrize("place", ["out", "deep/er/data", "."])
@pytest.mark.parametrize("kind", [store, run_folder, log_folder, export_folder])
def test_what_we_wrote_is_no_source(tmp_path: Path, kind: Any, place: str) -> None:
    """Whatever it is called, of whatever configuration, also where nothing of it is configured."""
    root = tmp_path / "videos"
    kind(root / place)
    if kind is store or place != ".":
        clip(root / "dog.mp4")
        clip(root / "folder/cup.mp4")
        assert names(find(searched(root))) == ["dog.mp4", "folder/cup.mp4"]
    search = find(searched(root))
    assert search.ours
    [note] = [line for line in search.notes() if "written by SparkTrainer" in line]
    assert str(root / place) in note or f"in {(root / place).parent}" in note
    assert not search.endings


def test_videos_of_a_users_own_in_a_store_are_found(tmp_path: Path) -> None:
    """`output_dir` may be where the videos are, and below it."""
    store(tmp_path)
    clip(tmp_path / "dog.mp4")
    clip(tmp_path / "raw/pose/cup.mp4")
    clip(tmp_path / "raw/encoded/cup.mp4")
    (tmp_path / "raw/run.json").touch()
    (tmp_path / "raw/frames.json").write_text('{"frames": []}')
    search = find(searched(tmp_path))
    assert names(search) == ["dog.mp4", "raw/encoded/cup.mp4", "raw/pose/cup.mp4"]


def test_what_a_kill_left_of_a_named_folder_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "out/.spark").mkdir(parents=True)
    clip(tmp_path / "out/dog/pose/pose.mp4")
    (tmp_path / "out/dog/pose/keypoints.npz").touch()
    clip(tmp_path / "out/cup/pose/pose.mp4")
    (tmp_path / "out/cup/audio.json").write_text('{"step": "au')
    assert names(find(searched(tmp_path))) == []


def test_a_link_into_a_store_is_not_followed(tmp_path: Path) -> None:
    store(tmp_path / "elsewhere")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/link").symlink_to(tmp_path / "elsewhere")
    assert names(find(searched(tmp_path / "videos"))) == []


def test_a_file_may_be_given(tmp_path: Path) -> None:
    """By name it is a video whatever its ending; beside folders too."""
    one, other = clip(tmp_path / "one.bin"), clip(tmp_path / "folder/other.mp4")
    search = find(searched([one, other.parent]))
    assert [(f.name, f.absolute) for f in search.files] == [
        ("one.bin", str(one)),
        ("other.mp4", str(other)),
    ]
    with pytest.raises(ConfigError, match=r"video_dir: no such folder: .*none\.mp4"):
        find(searched(tmp_path / "none.mp4"))


@pytest.mark.parametrize("written", ["~/v", "$PLACE/v", "${PLACE}/v", "${HOME}/v", "~/$V"])
def test_home_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    clip(tmp_path / "v/dog.mp4")
    for name, value in (("HOME", str(tmp_path)), ("PLACE", str(tmp_path)), ("V", "v")):
        monkeypatch.setenv(name, value)
    config = load(
        {"video_dir": [written], "output_dir": written, "train": {"manifest_path": written}}
    )
    assert names(find(config)) == ["dog.mp4"]
    assert config.output_dir == config.runs["default"].manifest_path == str(tmp_path / "v")


@pytest.mark.parametrize("key", ["video_dir", "output_dir", "manifest_path"])
@pytest.mark.parametrize("written", ["$NOT_SET/v", "/a/${NOT_SET}/v"])
def test_a_variable_that_is_not_set_is_named(key: str, written: str) -> None:
    data = {"train": {key: written}} if key == "manifest_path" else {key: written}
    with pytest.raises(ConfigError, match=rf"{key}: expected a path; \$\{{?NOT_SET\}}? is not set"):
        load(data)


def test_a_dollar_in_a_name_that_is_there_is_no_variable(tmp_path: Path) -> None:
    clip(tmp_path / "$RECYCLE/dog.mp4")
    assert names(find(searched(tmp_path / "$RECYCLE"))) == ["dog.mp4"]


@pytest.mark.parametrize("empty", ["", [], [""]])
def test_no_folder_at_all_is_refused(empty: Any) -> None:
    with pytest.raises(ConfigError, match="video_dir: expected a path"):
        load({"video_dir": empty})


def test_links_and_files_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    clip(tmp_path / "dog.mp4")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "a.mp4").symlink_to("b.mp4")
    (tmp_path / "b.mp4").symlink_to("a.mp4")
    (tmp_path / "mounted").symlink_to("/nowhere/at/all")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    search = find(searched(tmp_path))
    assert names(search) == ["dog.mp4"]
    assert {Path(t.path).name: t.reason for t in search.troubles} == {
        "self": "Too many levels of symbolic links",
        "a.mp4": "Too many levels of symbolic links",
        "b.mp4": "Too many levels of symbolic links",
        "mounted": "it links to '/nowhere/at/all', which is not there",
        "pipe.mp4": "it is not a regular file",
    }


def test_many_troubles_fill_no_screen(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number}.mp4").symlink_to("nowhere")
    notes = find(searched(tmp_path)).notes()
    assert len(notes) == 12
    assert "video_dir: left out this time: 990 more" in notes


@pytest.mark.parametrize("kind", ["pipe", "circle"])
def test_a_folder_that_is_none_stops(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    with pytest.raises(ConfigError, match=f"video_dir: .*{kind}"):
        find(searched(path))
