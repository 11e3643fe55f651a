"""What is encoded ahead: the same training; what fails, is harmed or killed is made again."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spark_trainer.config import Run, Split
from spark_trainer.data.dataset import split_of
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.data.sample import Unusable
from spark_trainer.errors import MachineError
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.runs.spec import RunSpec
from spark_trainer.steps.base import Context
from spark_trainer.steps.runner import Job
from spark_trainer.train import encode
from spark_trainer.train.launch import LaunchError

from .conftest import write_run
from .test_diffusion import FAMILIES, Make, folders, make, manifest, train

__all__ = ["folders", "make", "manifest"]  # fixtures

CLIPS = "??/*/*.safetensors"  # below the folder of the encoders: each video's own
CHANCE = {"sampling": "random", "reference": "random", "variants": 2}


def run(made: RunSpec) -> dict[str, int]:
    """Run the step; returns how many files were kept and made, and videos not wholly encoded."""
    before = tensors(made)
    encode.run(made, Path(made.settings.manifest_path or ""), granted_gpus=0, threads=1)
    after = tensors(made)
    assert before.items() <= after.items()
    told = records(made).values()
    promised = {made.encoded / name for record in told for name in record["files"]}
    assert promised <= after.keys()
    unusable = sum(record["status"] != "ok" for record in told)
    fresh = len(after) - len(before)
    return {"kept": len(promised) - fresh, "made": fresh, "unusable": unusable}


def tensors(made: RunSpec) -> dict[Path, int]:
    """What the encoders made -> when."""
    return {path: path.stat().st_mtime_ns for path in made.encoded.rglob("*.safetensors")}


def records(made: RunSpec) -> dict[str, dict[str, Any]]:
    """Video -> what is recorded of it for these settings."""
    found = made.encoded.glob(f"??/*/{made.encode_fingerprint}.json")
    return {path.parent.name: json.loads(path.read_text()) for path in found}


def edited(manifest: Path, change: Callable[[dict[str, Any]], None], part: str = "train") -> None:
    """Change the first line of a part."""
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    change(next(line for line in lines if split_of(line["id"], Split(validation=0.5)) == part))
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))


def same_as_each_step(make: Make, name: str, run: str, **settings: Any) -> None:
    """Losses to the last bit, held out and trained on."""
    ahead = train(write_run(make(name, f"{run}-ahead", **settings)))
    settings = settings | {"clip": {"variants": 1} | settings.get("clip", {})}
    assert ahead == train(write_run(make(name, f"{run}-each", encode="each_step", **settings)))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_losses_are_those_of_encoding_at_each_step(name: str, make: Make) -> None:
    flip = {"flip": True} if name != "wan_animate" else {}
    settings = {"clip": CHANCE | flip, "num_epochs": 3, "max_steps": 6, "seed": 3}
    same_as_each_step(make, name, "one", **settings)


def test_only_the_encoders_are_loaded(make: Make, folders: dict[str, Path], tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline"
    shutil.copytree(folders["wan_animate"], pipeline)
    for path in (pipeline / "transformer").glob("*.safetensors"):
        path.unlink()
    assert run(make("wan_animate", model_name=str(pipeline)))["made"] == 13


def test_what_is_kept_is_cut_off_from_the_network(make: Make) -> None:
    made = make("wan_animate")
    run(made)
    clips = [load_file(path) for path in made.encoded.glob(CLIPS)]
    assert len(clips) == 6
    assert {tensor.dtype for tensor in clips[0].values()} == {torch.float32, torch.uint8}
    assert all("text" not in clip for clip in clips)


def test_an_unreadable_frame_is_counted_and_the_rest_is_kept(make: Make, manifest: Path) -> None:
    first: list[dict[str, Any]] = []
    edited(manifest, first.append)
    frame = manifest.parent / first[0]["frames_dir"] / "frame_000003.jpg"
    frame.write_bytes(b"")
    made = make("svd", max_skipped=0.5, max_steps=1)
    assert run(made) == {"kept": 0, "made": 5, "unusable": 1}
    folder = write_run(made)
    train(folder)
    told = json.loads((folder / "trained.json").read_text())
    assert told["skipped_samples"] == 1
    assert (
        f"video {first[0]['id']} is not encoded: see logs/encode"
        in (folder / "train.log").read_text()
    )


def test_samples_that_are_read_ahead_are_encoded_the_same(make: Make) -> None:
    """Many are read at once, one is encoded at a time."""
    alone, ahead = make("wan_animate"), make("wan_animate", num_workers=3)
    run(alone)
    before = {path: path.read_bytes() for path in tensors(alone)}
    shutil.rmtree(alone.encoded)
    assert run(ahead)["made"] == len(before)
    assert {path: path.read_bytes() for path in tensors(ahead)} == before


def test_records_that_are_missing_are_written_and_nothing_is_encoded(
    make: Make, folders: dict[str, Path], tmp_path: Path
) -> None:
    """A store of an earlier version has none; its encoders are not even loaded."""
    pipeline = tmp_path / "pipeline"
    shutil.copytree(folders["animatediff"], pipeline)
    made = make("animatediff", model_name=str(pipeline))
    assert run(made) == {"kept": 0, "made": 13, "unusable": 0}
    told, before = records(made), tensors(made)
    assert len(told) == 6
    for video in told:
        (made.encoded / video[:2] / video / f"{made.encode_fingerprint}.json").unlink()
    for path in pipeline.rglob("*.safetensors"):
        path.unlink()
    assert run(made) == {"kept": 13, "made": 0, "unusable": 0}
    assert records(made) == told
    assert tensors(made) == before


def test_runs_with_the_same_encoders_leave_each_others_files_and_records(make: Make) -> None:
    """However often they are built in turns."""
    small, large = make("svd"), make("svd", clip={"sizes": [[64, 32]]})
    assert small.encoded == large.encoded
    assert run(small)["made"] == run(large)["made"] == 6

    def left() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in small.encoded.rglob("*.*")}

    before = left()
    for made in (small, large, small, large):
        assert run(made) == {"kept": 6, "made": 0, "unusable": 0}
        assert left() == before


def test_a_clip_that_could_not_be_encoded_is_tried_again(
    make: Make, manifest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each time it is named; once it can be read it alone is encoded."""
    first: list[dict[str, Any]] = []
    edited(manifest, first.append)
    frame = manifest.parent / first[0]["frames_dir"] / "frame_000003.jpg"
    whole = frame.read_bytes()
    frame.unlink()
    made = make("svd")
    for counts in ({"kept": 0, "made": 5, "unusable": 1}, {"kept": 5, "made": 0, "unusable": 1}):
        caplog.clear()
        assert run(made) == counts
        assert str(frame) in caplog.text
    frame.write_bytes(whole)
    assert run(made) == {"kept": 5, "made": 1, "unusable": 0}


class Encoders:
    """In the place of a family: a text is its own encoding, or what is to be raised."""

    def __init__(self, **errors: Exception) -> None:
        self.errors, self.seen = errors, list[str]()

    def load_encoders(self, run: Run, device: torch.device) -> Loaded:
        return Loaded(None, None)

    def encode_text(self, loaded: Loaded, text: str) -> dict[str, torch.Tensor]:
        self.seen.append(text)
        if text in self.errors:
            raise self.errors[text]
        return {"text": torch.tensor([len(text)])}


def encoding(encoders: Encoders, folder: Path) -> dict[str, int]:
    """Run the step over three videos, each with a text of its own and one that all share."""
    marker = folder / "marker.json"
    marker.unlink(missing_ok=True)
    taken: dict[Video, encode.Taken] = {
        Video(name, f"{name}/{name}"): {
            folder / f"{name}.safetensors": name,
            folder / "shared.safetensors": "shared",
        }
        for name in ("aa", "bb", "cc")
    }
    step = encode.EncodeStep(encoders, "f", taken)  # type: ignore[arg-type]
    context = Context(Layout(folder), Run(allow_cpu=True), workers=3)
    return Job(step, "f", Shard("", tuple(taken)), context).run(marker)


def status(folder: Path, name: str) -> tuple[str, str | None]:
    told = json.loads((folder / name / name / "f.json").read_text())
    return told["status"], told.get("reason")


def test_a_text_that_videos_share_is_encoded_once(tmp_path: Path) -> None:
    encoders = Encoders()
    assert encoding(encoders, tmp_path) == {"current": 0, "ok": 3}
    assert sorted(encoders.seen) == ["aa", "bb", "cc", "shared"]
    assert encoding(encoders, tmp_path) == {"current": 3}
    assert len(encoders.seen) == 4


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("mask"), "aa.safetensors: unexpected KeyError: 'mask'"),
        (Unusable("too short"), "too short"),
    ],
    ids=repr,
)
def test_what_can_not_be_encoded_costs_no_other(
    error: Exception, reason: str, tmp_path: Path
) -> None:
    assert encoding(Encoders(aa=error), tmp_path) == {"current": 0, "ok": 2, "rejected": 1}
    assert status(tmp_path, "aa") == ("rejected", reason)
    assert (tmp_path / "marker.json").exists()


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error"), OSError(28, "No space left on device")], ids=repr
)
def test_the_machines_trouble_is_no_clips_and_is_tried_again(
    error: Exception, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match="encode: 1 of 3 videos failed and will be tried again"):
        encoding(Encoders(aa=error), tmp_path)
    assert (status(tmp_path, "aa")[0], status(tmp_path, "bb")) == ("failed", ("ok", None))
    assert not (tmp_path / "marker.json").exists()
    encoders = Encoders()
    assert encoding(encoders, tmp_path) == {"current": 2, "ok": 1}
    assert encoders.seen == ["aa"]


class LargeEncoders(Encoders):
    """What they make of one text is 2 MB."""

    def encode_text(self, loaded: Loaded, text: str) -> dict[str, torch.Tensor]:
        return {"text": torch.zeros(1 << 19 if text == "aa" else 1)}


def test_what_the_disk_does_not_take_is_tried_again(tmp_path: Path) -> None:
    """The library that writes it tells so by words alone."""
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, most))
    try:
        with pytest.raises(MachineError, match="1 of 3 videos failed and will be tried again"):
            encoding(LargeEncoders(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert (status(tmp_path, "aa")[0], status(tmp_path, "bb")) == ("failed", ("ok", None))
    assert encoding(LargeEncoders(), tmp_path) == {"current": 2, "ok": 1}


def test_where_nothing_can_be_encoded_there_is_no_marker(tmp_path: Path) -> None:
    """Nobody foresaw any of the errors: a library may be of another version."""
    texts = ("aa", "bb", "cc", "shared")
    with pytest.raises(ValueError, match=r"nothing could be encoded; the first: .*KeyError"):
        encoding(Encoders(**{text: KeyError("mask") for text in texts}), tmp_path)
    assert not (tmp_path / "marker.json").exists()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def gone() -> str:
    """The name of a process that has ended."""
    code = "from spark_trainer.system import holder; print(holder.this())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ended.stdout.strip()


@pytest.mark.parametrize(
    ("harm", "kind"), [(cut, CLIPS), (empty, "texts/*/*.safetensors"), (Path.unlink, CLIPS)]
)
def test_a_file_that_was_harmed_is_made_again_and_the_run_goes_on(
    harm: Callable[[Path], None], kind: str, make: Make
) -> None:
    """A job that is tried again before the next call ends as the first one did."""
    calm = train(write_run(make("animatediff", "calm")))
    made = make("animatediff", max_skipped=0.5)
    folder, marker = write_run(made), made.encode_marker("0123456789abcdef")
    marker.parent.mkdir()
    marker.touch()
    before = {path: path.read_bytes() for path in tensors(made)}
    path = sorted(made.encoded.glob(kind))[0]
    harm(path)
    path.with_name(f".{path.name}.{gone()}.0123abcd.tmp").touch()  # of a job that was killed
    for _ in range(2):
        with pytest.raises(MachineError, match=rf"{path}: .*; the next call makes it again"):
            train(folder)
    assert marker.exists()
    Layout(made.encoded.parents[1]).sweep()  # as the next call begins
    assert not marker.exists()
    data = Path(made.settings.manifest_path or "")
    assert encode.run(made, data, granted_gpus=0, threads=1) == {"current": 5, "ok": 1}
    assert {path: path.read_bytes() for path in tensors(made)} == before
    assert not [*made.encoded.rglob("*.tmp")]
    assert train(folder) == calm


def test_frames_on_a_disk_that_fails_are_not_said_to_be_missing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, stat = make("svd"), Path.stat

    def failing(path: Path, **how: Any) -> os.stat_result:
        if path.suffix == ".jpg":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", failing)
    with pytest.raises(OSError, match="Input/output error"):
        encode.run(made, Path(made.settings.manifest_path or ""), granted_gpus=0, threads=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip": {"sizes": [[32, 30]]}}, r"encode: train\.clip\.sizes: 32 × 30; .* by 4"),
        ({"model_type": "vision_language"}, r"train\.model_type: .*; expected diffusion"),
        ({"allow_cpu": False}, r"train\.allow_cpu: false, but no GPU: there is none here"),
        ({"model_name": "no/such/folder"}, r"encode: .*no/such/folder"),
    ],
    ids=str,
)
def test_what_cannot_be_encoded_stops(settings: dict[str, Any], message: str, make: Make) -> None:
    with pytest.raises(LaunchError, match=message):
        run(make("svd", **settings))


@pytest.mark.long
def test_a_killed_job_leaves_whole_files_and_makes_only_the_rest(
    make: Make, tmp_path: Path
) -> None:
    made = make("wan_animate")
    marker = tmp_path / "marker.json"
    job = [sys.executable, "-m", "spark_trainer", "encode", "--marker", str(marker)]
    job += ["--spec", str(made.write(Layout(tmp_path / "state"))), "--threads", "1"]
    job += ["--data", made.settings.manifest_path or "", "--gpus", "0"]
    job += ["--log", str(tmp_path / "log")]

    with subprocess.Popen(job, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}) as process:
        while len(tensors(made)) < 9:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = tensors(made)
    assert not marker.exists()
    subprocess.run(job, check=True)
    after = tensors(made)
    assert before.items() <= after.items()
    assert len(after) == 13
    counts = json.loads(marker.read_text())
    assert counts.keys() == {"current", "ok"}
    assert sum(counts.values()) == 6
