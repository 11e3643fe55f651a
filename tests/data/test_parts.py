"""Parts that prove themselves whole, and the one stream that is made of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data import parts
from spark_trainer.data.files import Broken, write_json
from spark_trainer.data.layout import Layout, Shard, Video

HASHES = [f"{number:02x}" * 32 for number in (1, 0x41, 0x81, 0xC1)]
SHARDS = [
    Shard(bits, (Video(h, f"{h[:2]}/{h}"),))
    for bits, h in zip(("00", "01", "10", "11"), HASHES, strict=True)
]


def entry(video_hash: str) -> dict[str, Any]:
    return {"id": video_hash, "meta": {"caption": "ok \ud83d"}}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Four shards of one video, their parts, the list of them, and the snapshot."""
    layout = Layout(tmp_path)
    listed = []
    for shard in SHARDS:
        write_json(layout.shard(shard.name), [[v.hash, v.folder] for v in shard.videos])
        parts.write(layout.marker("manifest", shard.name, "f" * 16), map(entry, hashes_of(shard)))
        listed.append(
            [str(layout.marker("manifest", shard.name, "f" * 16)), str(layout.shard(shard.name))]
        )
    write_json(layout.parts("s"), listed)
    write_json(layout.index("i"), {h: [f'],"{h}":[', "a.mp4"] for h in HASHES})
    return layout


def hashes_of(shard: Shard) -> list[str]:
    return [video.hash for video in shard.videos]


def part(layout: Layout, number: int) -> Path:
    return layout.marker("manifest", SHARDS[number].name, "f" * 16)


def merged(layout: Layout) -> list[str]:
    return [found["id"] for found, _ in parts.merged(layout.parts("s"), layout.index("i"))]


def test_every_video_once_and_in_order(layout: Layout) -> None:
    write_json(layout.parts("s"), list(reversed(json.loads(layout.parts("s").read_text()))))
    assert merged(layout) == HASHES


def test_a_folder_whose_name_is_no_text_is_found_again(tmp_path: Path) -> None:
    line = {"id": HASHES[0], "frames_dir": "caf\udce9\\/frames", "meta": {"caption": "é \ud83d"}}
    parts.write(tmp_path / "part", [line])
    assert list(parts.read(tmp_path / "part")) == [line]


def empty(layout: Layout) -> Path:
    part(layout, 1).write_bytes(b"")
    return part(layout, 1)


def without_its_entry(layout: Layout) -> Path:
    part(layout, 1).write_text(part(layout, 1).read_text().splitlines(keepends=True)[1])
    return part(layout, 1)


def without_its_last_line(layout: Layout) -> Path:
    part(layout, 1).write_text(part(layout, 1).read_text().splitlines(keepends=True)[0])
    return part(layout, 1)


def cut_in_a_line(layout: Layout) -> Path:
    part(layout, 1).write_bytes(part(layout, 1).read_bytes()[:30])
    return part(layout, 1)


def changed(layout: Layout) -> Path:
    part(layout, 1).write_text(part(layout, 1).read_text().replace("ok", "no"))
    return part(layout, 1)


def of_another_shard(layout: Layout) -> Path:
    part(layout, 1).write_bytes(part(layout, 2).read_bytes())
    return part(layout, 1)


def gone(layout: Layout) -> Path:
    part(layout, 1).unlink()
    return part(layout, 1)


def twice(layout: Layout) -> Path:
    text = part(layout, 1).read_text().splitlines(keepends=True)
    part(layout, 1).write_text(text[0] + "".join(text))
    return part(layout, 1)


def not_listed(layout: Layout) -> Path:
    write_json(layout.parts("s"), json.loads(layout.parts("s").read_text())[1:])
    return layout.parts("s")


def cut_list(layout: Layout) -> Path:
    layout.parts("s").write_text(layout.parts("s").read_text()[:50])
    return layout.parts("s")


def cut_snapshot(layout: Layout) -> Path:
    layout.index("i").write_text(layout.index("i").read_text()[:250])
    return layout.index("i")


def binary_snapshot(layout: Layout) -> Path:
    layout.index("i").write_bytes(b"\0\xff" * 2000)
    return layout.index("i")


DAMAGES = (
    *(empty, without_its_entry, without_its_last_line, cut_in_a_line, changed, of_another_shard),
    *(gone, twice, not_listed, cut_list, cut_snapshot, binary_snapshot),
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_broken_is_named(layout: Layout, damage: Callable[[Layout], Path]) -> None:
    broken = damage(layout)
    with pytest.raises(Broken) as caught:
        merged(layout)
    assert caught.value.path == broken
    assert str(broken) in str(caught.value)


def test_a_part_may_hold_a_video_that_is_gone(layout: Layout) -> None:
    """Where the shard as it is now has fewer members, and where the video moved to another one."""
    more = Shard("01", (*SHARDS[1].videos, Video(HASHES[3], "elsewhere")))
    path = layout.marker("manifest", more.name, "f" * 16)
    parts.write(path, map(entry, hashes_of(more)))
    listed = json.loads(layout.parts("s").read_text())
    listed[1][0] = str(path)
    write_json(layout.parts("s"), listed)
    assert merged(layout) == HASHES


def test_a_part_alone_gives_what_it_has(layout: Layout) -> None:
    write_json(layout.parts("s"), [[str(part(layout, 2)), None]])
    assert merged(layout) == [HASHES[2]]
