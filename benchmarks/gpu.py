"""What training, encoding and captioning take on one GPU, at the size of published checkpoints.

uv run --group bench python benchmarks/gpu.py [--only PART …] [--out FILE]
uv run --group bench python benchmarks/gpu.py --dry
uv run --group bench python benchmarks/gpu.py --estimate [--only PART …]

Weights are random, clips are made on the spot, nothing is downloaded. Each part runs in a process
of its own and is written to the file as soon as it is done; parts that are there, of the same
commit, are skipped, so a command that was cut off goes on where it was. `--dry` runs every part on
a CPU with tiny sizes, by the same code, and records nothing unless `--out` is given; `--estimate`
computes there, without weights, what updates would take at full size.
"""

import argparse
import contextlib
import math
import multiprocessing
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gpu_estimate
import gpu_serving
import gpu_training
import measure
import transformers

from spark_trainer.data.files import read_json, write_json
from spark_trainer.system import environment, gpu

Figures = dict[str, Any]
PARTS: dict[str, Callable[[Path, str], Figures]] = {
    **{name: partial(gpu_training.measured, name) for name in gpu_training.TRAININGS},
    f"{gpu_training.TRL}, TRL": gpu_serving.trl,
    "whisper large-v3, encoder": gpu_serving.whisper_encoder,
    "qwen2-vl-7b, captions": gpu_serving.captions,
}
LIMIT_S = 240.0  # of a part
BEGIN_S = 400.0  # after which no part is begun: a command may last ten minutes
COUNTED = """\
MFU = FLOPs that an update needs / (its seconds × the card's dense bf16 peak, by its data sheet).
FLOPs are counted as updates are made (spark_trainer/train/flops.py): matrix products,
convolutions and attention, whole where it is causal too, of the frozen towers' forward pass and of
every backward product that frozen weights leave due. What is recomputed doesn't count.
Waits: how often an update makes the host wait for the GPU, as torch warns of it."""
COLUMNS = {  # title -> its figure, and how it is written
    "s": ("step_s", "{:.3f}"),
    "tokens/s": ("tokens_per_s", "{:.0f}"),
    "MFU": ("mfu", "{:.1%}"),
    "peak GiB": ("peak_gib", "{:.1f}"),
    "planned": ("planned_gib", "{:.1f}"),
    "waiting": ("data_wait_share", "{:.1%}"),
    "waits": ("waits", "{:.0f}"),
}


def chosen() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    dry = "tiny sizes on a CPU: only see that everything runs"
    parser.add_argument("--dry", "--smoke", action="store_true", help=dry)
    by_arithmetic = "compute what updates would take, and their memory, on a CPU"
    parser.add_argument("--estimate", action="store_true", help=by_arithmetic)
    known = ", ".join(PARTS)
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"beginnings of: {known}")
    out = "the result, to go on from and to write (results/gpu.json; of --dry none)"
    parser.add_argument("--out", type=Path, help=out)
    commit = "of this code, where git can't tell"
    parser.add_argument("--commit", default=None, help=commit)
    return parser.parse_args()


def main() -> int:
    """Measure what is asked for and not there; returns 1 where a part failed."""
    options = chosen()
    only = options.only or [""]
    names = [name for name in PARTS if any(map(name.startswith, only))]
    if not names:
        sys.exit(f"--only: no part begins with any of {only}; there are {', '.join(PARTS)}")
    out = options.out or measure.RESULTS / "gpu.json"
    _check(out)
    if options.estimate:
        return _estimated(names, out)
    commit = options.commit or measure.origin()["commit"]
    if options.dry:
        with tempfile.TemporaryDirectory() as folder:
            return measured(names, options.out or Path(folder) / "gpu.json", commit, "cpu")
    if not gpu.devices():
        print("no GPU: nothing was measured")
        return 0
    return measured(names, out, commit, "cuda")


def _check(out: Path) -> None:
    """End before anything is measured that could not be written."""
    try:
        _there(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except (OSError, ValueError) as error:
        sys.exit(f"--out: {error}")


def _estimated(names: list[str], out: Path) -> int:
    """Compute updates of what can be, and write them to the file beside what was measured.

    What the file says of the machine is of that which measured.
    """
    names = [name for name in gpu_training.TRAININGS if name in names]
    if not names:
        sys.exit(f"--only: estimated are {', '.join(gpu_training.TRAININGS)}")
    parts, before = _there(out)
    others = [one for one in before if one["part"] not in names]
    rows = []
    for row in gpu_estimate.rows(names):
        rows.append(row)
        print(gpu_estimate.table([row]), flush=True)
    origin = read_json(out) if parts else measure.origin()
    write_json(out, origin | {"parts": parts, "estimate": others + rows})
    return 0


def _there(out: Path) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Return the parts and the estimate of a file, empty where there is none."""
    found = read_json(out, dict) if out.exists() else {}
    return found.get("parts", {}), found.get("estimate", [])


def measured(names: list[str], out: Path, commit: str, device: str) -> int:
    """Measure parts that are not in a file, and write each to it; returns 1 where one failed."""
    parts, estimate = _there(out)
    began, due = time.monotonic(), list[str]()
    for name in names:
        there = parts.get(name, {})
        if there.get("commit") == commit and "failed" not in there:
            print(f"{name}: there already", flush=True)
        else:
            due.append(name)
    ready = Process(device) if due else None
    for number, name in enumerate(due):
        if time.monotonic() - began > BEGIN_S or ready is None:
            print(f"{name}: left for the next call of this command")
            continue
        at_work, ready = ready, None
        at_work.begin(name)
        if number + 1 < len(due):
            ready = Process(device)  # imports what it needs while this one makes its weights
        parts[name] = at_work.figures(LIMIT_S) | {"commit": commit}
        write_json(out, measure.origin() | {"parts": parts, "estimate": estimate})
        print(f"{name}: {parts[name].get('failed', 'done')}", flush=True)
    if ready:
        ready.kill()
    print(table(parts, estimate))
    return int(any("failed" in parts.get(name, {}) for name in names))


class Process:
    """A process for one part, which imports all that it needs and waits for the part's name.

    One that has been forked can't use CUDA where its parent has looked for it; on a CPU it need not
    import everything again.
    """

    def __init__(self, device: str) -> None:
        context: Any = multiprocessing.get_context("spawn" if device == "cuda" else "fork")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_process, args=(device, there, os.getpid()))
        self._process.start()
        there.close()
        self._began = time.monotonic()

    def begin(self, name: str) -> None:
        """Let it measure a part."""
        self._began = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it is gone, as `figures` will tell
            self._pipe.send(name)

    def figures(self, limit_s: float) -> dict[str, Any]:
        """Return a part's figures, or why there are none, and end the process."""
        figures: dict[str, Any] = {"failed": f"took more than {limit_s:g} s"}
        try:
            if self._pipe.poll(limit_s):
                figures = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            figures = {"failed": "the process ended without a word"}
        self._process.join(10)
        self.kill()
        return figures | {"all_s": time.monotonic() - self._began}

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()


def _process(device: str, told: Connection, parent: int) -> None:
    """Wait for a part's name, measure it in this process, and tell what came of it."""
    # As in a process of training: one that was spawned would spawn its workers, too.
    multiprocessing.set_start_method("fork", force=True)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    environment.tune_jobs()
    gpu_training.as_launched()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    name = told.recv()
    try:
        with tempfile.TemporaryDirectory(prefix="spark-gpu-") as folder:
            told.send(PARTS[name](Path(folder), device))
    except ModuleNotFoundError as error:
        told.send({"failed": f"not installed: {error.name}"})
    except BaseException:
        told.send({"failed": traceback.format_exc()[-2000:]})
    sys.stdout.flush()
    os._exit(0)  # threads of process groups and workers of loaders are waited for otherwise


def _end_with(parent: int) -> None:
    """End this process when the command is gone: another would measure beside it on one card."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def table(parts: dict[str, dict[str, Any]], estimate: Iterable[dict[str, Any]]) -> str:
    """Return a line for every part, with the memory that was computed, and how it is counted."""
    planned = {(one["part"], one["recomputed"]): one["planned_gib"] for one in estimate}
    lines = ["", f"{'':<36}" + "".join(f"{title:>10}" for title in COLUMNS)]
    for name in PARTS:
        figures = parts.get(name, {})
        if "step_s" in figures:
            known = {"planned_gib": planned.get((name, _recomputed(name)))} | figures
            cells = (_cell(known.get(key), form) for key, form in COLUMNS.values())
            lines.append(f"{name:<36}" + "".join(f"{cell:>10}" for cell in cells))
        else:
            why = str(figures.get("failed", "not measured")).strip().splitlines()[-1]
            lines.append(f"{name:<36}{why}")
    return "\n".join([*lines, "", *_ratio(parts), COUNTED])


def _recomputed(name: str) -> Any:
    """Return what a part computes a second time; None where it doesn't train."""
    training = gpu_training.TRAININGS.get(name)
    return (gpu_training.COMMON | training.settings)["gradient_checkpointing"] if training else None


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else form.format(value)


def _ratio(parts: dict[str, dict[str, Any]]) -> list[str]:
    """Say how many times TRL's tokens/s ours are, where both are there."""
    ours, theirs = (
        parts.get(name, {}).get("tokens_per_s")
        for name in (gpu_training.TRL, f"{gpu_training.TRL}, TRL")
    )
    return [f"ours packed over TRL: {ours / theirs:.2f}", ""] if ours and theirs else []


if __name__ == "__main__":
    sys.exit(main())
