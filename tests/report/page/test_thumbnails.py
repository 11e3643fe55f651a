"""Pictures are made once, and again where the frame is another."""

import base64
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from spark_trainer.data.layout import Layout
from spark_trainer.report.page import thumbnails
from spark_trainer.report.page.thumbnails import SIDE_PX, Thumbnails


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "out")
    found.state.mkdir(parents=True)
    return found


def frame(folder: Path, name: str, colour: str = "red", size: tuple[int, int] = (640, 360)) -> Path:
    Image.new("RGB", size, colour).save(folder / name)
    return folder / name


def test_a_picture_is_small_and_keeps_its_shape(tmp_path: Path) -> None:
    made = thumbnails.picture(frame(tmp_path, "a.jpg", size=(720, 1280)))
    with Image.open(io.BytesIO(base64.b64decode(made))) as image:
        assert (image.format, image.size) == ("WEBP", (126, SIDE_PX))


def test_only_what_changed_is_made_again(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {"a" * 64: frame(tmp_path, "a.jpg"), "b" * 64: frame(tmp_path, "b.jpg")}
    first = Thumbnails(layout).of(paths, 2)
    assert first.keys() == paths.keys()
    made: list[Path] = []
    real = thumbnails.picture
    monkeypatch.setattr(thumbnails, "picture", lambda path: [made.append(path), real(path)][1])
    assert Thumbnails(layout).of(paths, 2) == first
    assert not made
    frame(tmp_path, "b.jpg", "blue")
    os.utime(paths["b" * 64], ns=(1, 1))
    again = Thumbnails(layout).of(paths, 2)
    assert made == [paths["b" * 64]]
    assert (again["a" * 64] == first["a" * 64], again["b" * 64] == first["b" * 64]) == (True, False)


def test_a_frame_that_cannot_be_read_has_no_picture(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes(frame(tmp_path, "a.jpg").read_bytes()[:300])
    paths = {"a" * 64: tmp_path / "torn.jpg", "b" * 64: tmp_path / "gone.jpg"}
    assert Thumbnails(layout).of(paths, 1) == {}


def test_a_damaged_list_is_made_anew(layout: Layout, tmp_path: Path) -> None:
    paths = {"a" * 64: frame(tmp_path, "a.jpg")}
    first = Thumbnails(layout).of(paths, 1)
    layout.thumbnails.write_text('{"id": "a"}\nnothing\n')
    assert Thumbnails(layout).of(paths, 1) == first
