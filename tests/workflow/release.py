"""Builds and packs what a release leaves of three clips: a store, a finished run, a killed one.

    git archive <commit> | tar -x -C ../release
    uv run python -m tests.workflow.release ../release tests/assets/release-0.1.0.tar.xz

`test_takeover.py` unpacks it and goes on with the code of today. The network has so few weights
that a checkpoint takes 60 kB; where a run begins they are drawn from its seed.
"""

import io
import os
import platform
import re
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast, BlipConfig, BlipImageProcessor, BlipProcessor

from spark_trainer.config import Split
from spark_trainer.data.dataset import split_of

from .conftest import Workspace, cut, three

WIDTH_PX = 48  # of the clips, which are most of the archive
SIDE_PX = 16
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz:, "
RUN: dict[str, Any] = {
    "model_name": "model",
    "from_scratch": True,
    "allow_cpu": True,
    "min_gpus": 0,
    "clip": {"num_frames": 1},
    "batch_size": 2,
    "global_batch_size": 2,
    "schedule": "constant",
    "eval_steps": 20,
    "checkpoint_steps": 2,
    "keep_checkpoints": 1,
    "num_samples": 1,
    "num_workers": 0,
}
SHORT = {"finished": {"max_steps": 2}}
LONG = {"killed": {"max_steps": 60}}

# What the test doesn't need, or what tells of the machine that it was made on.
LEFT_OUT = re.compile(
    r"(^|/)(logs|benchmarks|tensorboard|\.snakemake|train\.log|runs/\d{8}-\d{6})(/|$)"
)
SOMEWHERE = "/home/somebody/project"


def model(folder: Path) -> None:
    """Write the configuration and the vocabulary of a BLIP of a few thousand weights."""
    words = BertWordPieceTokenizer(lowercase=True)
    words.train_from_iterator([LETTERS, " ".join(LETTERS)], vocab_size=64, special_tokens=SPECIAL)
    folder.mkdir()
    words.save(str(folder / "words.json"))
    tokenizer = BertTokenizerFast(tokenizer_file=str(folder / "words.json"), bos_token="[DEC]")
    (folder / "words.json").unlink()
    size = {"height": SIDE_PX, "width": SIDE_PX}
    BlipProcessor(BlipImageProcessor(size=size), tokenizer).save_pretrained(folder)
    layers = {"hidden_size": 8, "intermediate_size": 8}
    layers |= {"num_hidden_layers": 1, "num_attention_heads": 1}
    text = layers | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "encoder_hidden_size": layers["hidden_size"],
    }
    vision = layers | {"image_size": SIDE_PX, "patch_size": 8}
    BlipConfig(text_config=text, vision_config=vision, projection_dim=8).save_pretrained(folder)


def configure(workspace: Workspace) -> None:
    """Ask for every step that needs no network, and for a split with a clip in both parts."""
    whisper = {"backend": "faster-whisper", "whisper_model": "offline-tiny.en", "device": "cpu"}
    workspace.configure("transcript", enabled=True, **whisper)
    workspace.configure("caption", enabled=True, captioner_backend="imagenet-tags")
    hashes = [workspace.place(path.stem)[3:] for path in workspace.clips.glob("*.mp4")]
    for seed in range(100):
        split = Split(validation=0.5, seed=seed)
        if {split_of(one, split) for one in hashes} == {"train", "validation"}:
            break
    workspace.configure("train", **RUN, split={"validation": 0.5, "seed": seed})


def build(workspace: Workspace) -> None:
    """Build everything, and kill the longer run after its first checkpoint."""
    workspace.configure("train", runs=SHORT)
    workspace.build("train")
    workspace.configure("train", runs=SHORT | LONG)
    command = workspace.command("train", "--retries", "0")
    call = psutil.Popen(command, cwd=workspace.folder, env=workspace.environment())
    while not list(workspace.folder.glob("runs/killed-*/checkpoints/step_*")):
        assert call.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    for process in call.children(recursive=True):
        if "spark_trainer.train.loop" in process.cmdline():
            process.kill()
    assert call.wait() == 1
    assert not list(workspace.folder.glob("runs/killed-*/trained.json"))


def pack(folder: Path, target: Path) -> None:
    """Pack a folder; the same files and times give the same bytes."""
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if LEFT_OUT.search(name):
                continue
            entry = archive.gettarinfo(path, name)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = int(entry.mtime)
            entry.linkname = entry.linkname.replace(str(folder), SOMEWHERE)
            content = path.read_bytes() if entry.isreg() else b""
            content = content.replace(platform.platform().encode(), b"Linux")
            entry.size = len(content)
            assert str(folder).encode() not in content, f"{name} names {folder}"
            archive.addfile(entry, io.BytesIO(content))


def main() -> None:
    """Build with the code in a folder, and pack into a file."""
    tree, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as temporary:
        clips, folder = Path(temporary) / "cuts", Path(temporary) / "project"
        clips.mkdir()
        folder.mkdir()
        workspace = three(folder, cut(clips, width_px=WIDTH_PX))
        workspace.tree = tree
        model(folder / "model")
        configure(workspace)
        for path in folder.rglob("*"):  # an archive holds whole seconds
            os.utime(path, (int(path.stat().st_mtime),) * 2)
        build(workspace)
        pack(folder, target)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
