"""Many videos through one model: what is read ahead, batched, halved, and never lost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from spark_trainer import captioners
from spark_trainer.captioners import Captioner, Prepared, Shown, Trouble, engine
from spark_trainer.captioners.engine import BatchSize
from spark_trainer.config import Captioning, ConfigError
from spark_trainer.errors import MachineError
from tests.families import tiny

MIB = 1 << 20


class Hungry(Captioner):
    """Takes a fixed amount of real memory for each video of a batch, and notes the batches."""

    def __init__(self, mib: int) -> None:
        self._mib = mib
        self.batches: list[list[int]] = []
        self.readers: set[int] = set()

    def prepare(self, shown: Shown) -> Prepared:
        return {
            "frame": shown.frames[0].read_text(),
            "length": len(shown.frames),
            "by": os.getpid(),
        }

    def caption(self, batch: Sequence[Prepared]) -> list[str]:
        torch.ones(len(batch) * self._mib * MIB, dtype=torch.uint8)
        self.batches.append([one["length"] for one in batch])
        self.readers |= {one["by"] for one in batch}
        return [str(one["frame"]) for one in batch]


@pytest.fixture
def videos(tmp_path: Path) -> list[Shown]:
    """Forty videos of one to five frames; a frame holds its video's number."""
    shown = []
    for number in range(40):
        frame = tmp_path / f"{number}.jpg"
        frame.write_text(str(number))
        count = 1 + number % 5
        shown.append(Shown((frame,) * count, tuple(map(float, range(count)))))
    return shown


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size", ["auto", 1, 7, 100])
def test_every_video_gets_its_own_caption(
    batch_size: int, num_workers: int, videos: list[Shown]
) -> None:
    model = Hungry(0)
    made = {n: text for n, text, _ in engine.run(model, videos, batch_size, num_workers)}
    assert made == {number: str(number) for number in range(40)}
    assert (os.getpid() in model.readers) == (num_workers == 0)
    assert len(model.readers) == max(1, num_workers)


def test_a_batch_holds_videos_of_like_length(videos: list[Shown]) -> None:
    model = Hungry(0)
    list(engine.run(model, videos, 8, 0))
    assert [len(batch) for batch in model.batches] == [8] * 5
    first, *others = [max(batch) - min(batch) for batch in model.batches]
    assert first == 4  # as they come, because the model waits
    assert max(others) <= 2
    assert sum(others) <= 6  # 16 as they come


def test_a_video_that_cannot_be_read_costs_no_other(videos: list[Shown]) -> None:
    videos[3].frames[0].unlink()
    made = {n: text for n, text, _ in engine.run(Hungry(0), videos, 4, 2)}
    gone = made.pop(3)
    assert isinstance(gone, Trouble)
    assert (gone.machine, "3.jpg" in gone.why) == (True, True)
    assert made == {number: str(number) for number in range(40) if number != 3}


class Picky(Hungry):
    """Fails in a batch with certain videos, and for every picture once `broken` is set."""

    def __init__(self, bad: set[str], broken: bool = False) -> None:
        super().__init__(0)
        self._bad, self.broken = bad, broken

    def prepare(self, shown: Shown) -> Prepared:
        frame = shown.frames[0]
        name = frame.read_text() if frame.suffix == ".txt" else "grey"
        return {"frame": name, "length": len(shown.frames), "by": os.getpid()}

    def caption(self, batch: Sequence[Prepared]) -> list[str]:
        if self.broken or self._bad & {str(one["frame"]) for one in batch}:
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return super().caption(batch)


@pytest.fixture
def texts(videos: list[Shown]) -> list[Shown]:
    """The videos by names that Pillow does not know."""
    for one in videos:
        one.frames[0].rename(one.frames[0].with_suffix(".txt"))
    return [Shown(tuple(f.with_suffix(".txt") for f in one.frames), one.times) for one in videos]


@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
def test_a_batch_that_fails_costs_only_the_guilty(batch_size: int, texts: list[Shown]) -> None:
    bad = {"5", "17"}
    made = {n: text for n, text, _ in engine.run(Picky(bad), texts, batch_size, 0)}
    for number in sorted(map(int, bad)):
        blamed = made.pop(number)
        assert isinstance(blamed, Trouble)
        assert not blamed.machine
        assert blamed.why.startswith("unexpected ValueError: absolute aspect ratio")
        assert "Traceback" in blamed.details
    assert made == {number: str(number) for number in range(40) if str(number) not in bad}


def test_settings_that_let_nothing_be_captioned_stop_at_once(texts: list[Shown]) -> None:
    with pytest.raises(
        ConfigError, match=r"caption\.model_name: .* unexpected ValueError"
    ) as caught:
        list(engine.run(Picky(set(), broken=True), texts, 4, 0))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_device_that_breaks_on_the_way_blames_no_video(texts: list[Shown]) -> None:
    model = Picky(set())
    running = engine.run(model, texts, 4, 0)
    assert all(text == str(number) for number, text, _ in islice(running, 8))
    model.broken = True
    with pytest.raises(MachineError, match="not even a grey picture"):
        next(running)


def test_a_killed_reader_is_the_machines_trouble(texts: list[Shown]) -> None:
    class Doomed(Picky):
        def prepare(self, shown: Shown) -> Prepared:
            if shown.frames[0].stem == "9":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().prepare(shown)

    with pytest.raises(MachineError, match="reading ahead"):
        list(engine.run(Doomed(set()), texts, 1, 2))


def under_memory_limit(videos: list[Shown], mib_each: int, mib: int) -> dict[str, object]:
    """Run batches of 16 in a process of its own that may take so much more memory than it has."""
    code = f"""
import json, resource, sys
import torch
from pathlib import Path
from tests.captioners.test_engine import Hungry
from spark_trainer.captioners import Shown, engine
from spark_trainer.system.memory import OutOfMemory
model, made = Hungry({mib_each}), []
videos = [Shown((Path(p),) * n, tuple(map(float, range(n)))) for p, n in json.loads(sys.argv[1])]
import accelerate.utils.memory
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {mib} * {MIB},) * 2)
try:
    for number, text, _ in engine.run(model, videos, 16, 0):
        made.append([number, text])
    failure = None
except OutOfMemory as error:
    failure = str(error)
print(json.dumps({{"made": made, "batches": model.batches, "failure": failure}}))
"""
    listed = json.dumps([[str(one.frames[0]), len(one.frames)] for one in videos])
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, listed],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(videos: list[Shown]) -> None:
    found = under_memory_limit(videos, mib_each=100, mib=700)
    assert sorted(found["made"]) == [[number, str(number)] for number in range(40)]
    assert {len(batch) for batch in found["batches"]} == {4}  # 16 and 8 did not fit


def test_a_single_video_that_does_not_fit_stops(videos: list[Shown]) -> None:
    found = under_memory_limit(videos, mib_each=900, mib=700)
    assert found["made"] == []
    assert "can't allocate memory" in str(found["failure"])


def test_the_batch_grows_while_that_is_faster() -> None:
    size = BatchSize("auto")
    for seconds, expected in ((1.0, 2), (1.2, 4), (1.5, 8), (3.1, 4), (1.5, 4)):
        size.fitted(size.size, seconds)
        assert size.size == expected
    size.too_large(4)
    assert size.size == 2
    size.fitted(2, 0.001)
    assert size.size == 2


def test_a_batch_that_is_not_full_says_nothing_about_the_size() -> None:
    size = BatchSize("auto")
    size.fitted(1, 1.0)
    size.fitted(1, 0.1)
    assert size.size == 2


def test_a_given_size_stays() -> None:
    size = BatchSize(6)
    size.fitted(6, 0.001)
    assert size.size == 6


def test_the_real_model_gives_the_same_words_in_any_batch(
    tmp_path: Path, pictures: dict[str, Path]
) -> None:
    """Videos of other lengths, images, and another number of workers.

    cuDNN's attention, which builds a plan for each length, is not allowed to any pass.
    """
    folder = tiny.qwen2_5_vl(tmp_path / "qwen")
    settings = Captioning(captioner_backend="qwen2-vl", model_name=str(folder), max_new_tokens=6)
    model, cudnn = captioners.load(settings), set[bool]()
    model._model.register_forward_pre_hook(  # type: ignore[attr-defined]
        lambda *_: cudnn.add(torch.backends.cuda.cudnn_sdp_enabled())
    )
    p = []
    for picture in pictures.values():  # the frames of a video have one size
        p.append(tmp_path / picture.name)
        with Image.open(picture) as image:
            image.resize((120, 80)).save(p[-1])
    lists = [p[:3], p[1:3], p[:1], p[::-1], p[2:], p[3:], p[1:], [p[0], p[3]]]
    videos = [Shown(tuple(one), tuple(map(float, range(len(one))))) for one in lists]
    single = dict(item[:2] for item in engine.run(model, videos, 1, 0))
    assert dict(item[:2] for item in engine.run(model, videos, 8, 2)) == single
    assert len(set(single.values())) > 4
    assert cudnn == {False}
