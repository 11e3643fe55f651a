"""The caption step against a bare `generate` loop, and against one process per video.

uv run python benchmarks/caption.py

The model is a Qwen2-VL of 4 layers and 256 wide with random weights, its words single tokens. A
video is 8 real JPEG frames of the demo's clips at 320×180. On a CPU model and readers share the
cores: the model gets one thread, and one process reads ahead.
"""

import dataclasses
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
import measure
import torch
import train_setup
import transformers
import yaml
from measure import Cost, Measured, Options, Target

from spark_trainer import captioners, config, steps
from spark_trainer.captioners import Shown, engine
from spark_trainer.config import Captioning
from spark_trainer.data import index
from spark_trainer.data.files import write_json
from spark_trainer.steps import runner
from spark_trainer.steps.base import Context
from spark_trainer.system import environment

MIN_SHARE = 0.95  # our items/s over the bare loop's
MIN_TIMES = 5.0  # a shard's videos/s over those of a process per video
CLIPS = ("bunny.mp4", "cup.mp4", "dog.mp4", "globe-reading.mp4", "title.mp4")
LABELS = {"ours": "ours, frames from the disk", "bare": "bare, inputs preloaded"}
FRAMES = 8
SIZE = (320, 180)
STEP = "caption/qwen2-vl"
SMALL = dataclasses.replace(train_setup.SMALL, tied=False)  # tied, it repeats its last word
SIDE = 112  # pixels, as the model sees a frame
WARM = 16  # videos captioned before anything is timed
SHORT = 16  # tokens of a caption, where loads and starts are in question


@dataclass(frozen=True)
class Load:
    """How the engine is run, and the bare loop beside it."""

    device: str
    videos: int
    batch_size: int
    tokens: int
    workers: int


@dataclass(frozen=True)
class Pass:
    """All videos captioned once.

    Attributes:
        seconds: for all of them.
        first_s: until the first caption was there.
        texts: the captions.
        busy: how busy the GPU was, in percent, five times a second; empty without one.
    """

    seconds: float
    first_s: float
    texts: list[str]
    busy: list[int]


def pictures(folder: Path) -> list[Path]:
    """Frames of the demo's clips, in one row of numbers."""
    folder.mkdir()
    for clip in CLIPS:
        source = measure.REPOSITORY / "config/demo/clips" / clip
        shown = ffmpeg.input(str(source)).filter("fps", 15).filter("scale", *SIZE)
        options = {"q:v": 2, "start_number": len(list(folder.iterdir()))}
        measure.write(shown.output(str(folder / "%06d.jpg"), **options))
    return sorted(folder.iterdir())


def windows(frames: list[Path], count: int) -> list[tuple[Path, ...]]:
    """So many videos of `FRAMES` consecutive frames, no two the same."""
    stride = (len(frames) - FRAMES) // count
    assert stride, f"{len(frames)} frames are too few for {count} videos"
    return [tuple(frames[i * stride : i * stride + FRAMES]) for i in range(count)]


def engine_pass(captioner: captioners.Captioner, videos: list[Shown], load: Load) -> Pass:
    """Caption the videos as the step does: read ahead, sorted, in batches."""
    began, first_s, texts = time.perf_counter(), 0.0, {}
    with measure.busy() as busy:
        for number, text, _ in engine.run(captioner, videos, load.batch_size, load.workers):
            assert isinstance(text, str), text
            first_s = first_s or time.perf_counter() - began
            texts[number] = text
        seconds = time.perf_counter() - began
    return Pass(seconds, first_s, [texts[number] for number in range(len(videos))], busy)


def bare_pass(model: Any, processor: Any, batches: list[dict[str, Any]], load: Load) -> Pass:
    """Caption batches that lie on the device."""
    began, first_s, texts = time.perf_counter(), 0.0, []
    with measure.busy() as busy, torch.inference_mode():
        for batch in batches:
            ids_BL = model.generate(**batch, max_new_tokens=load.tokens, do_sample=False)
            said = ids_BL[:, batch["input_ids"].shape[1] :]
            texts += processor.batch_decode(said, skip_special_tokens=True)
            first_s = first_s or time.perf_counter() - began
        seconds = time.perf_counter() - began
    return Pass(seconds, first_s, [text.strip() for text in texts], busy)


def loops(folder: Path, frames: list[Path], load: Load, pairs: int) -> dict[str, Any]:
    """Our engine and the bare loop over the same videos, in turns; they must say the same."""
    settings = Captioning(
        captioner_backend="qwen2-vl", model_name=str(folder), max_new_tokens=load.tokens
    )
    captioner = captioners.load(settings, load.device, threads=1)
    times = tuple(map(float, range(FRAMES)))
    videos = [Shown(window, times) for window in windows(frames, load.videos)]
    prepared = [captioner.prepare(video) for video in videos]
    batches = []
    for start in range(0, load.videos, load.batch_size):
        group = prepared[start : start + load.batch_size]
        names = [name for name in group[0] if name != "length"]
        batches.append(
            {name: torch.cat([one[name] for one in group]).to(load.device) for name in names}
        )
    dtype = getattr(torch, captioner.facts["dtype"])
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        folder, dtype=dtype, device_map=load.device
    ).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    engine_pass(captioner, videos[:WARM], load)
    bare_pass(model, processor, batches[:1], load)
    ours, bare = [], []
    for number in range(pairs):
        for is_ours in (True, False) if number % 2 else (False, True):
            if is_ours:
                ours.append(engine_pass(captioner, videos, load))
            else:
                bare.append(bare_pass(model, processor, batches, load))
        assert ours[-1].texts == bare[-1].texts, "the loops did not say the same"
    shares = [theirs.seconds / own.seconds for own, theirs in zip(ours, bare, strict=True)]
    low, share, high = statistics.quantiles(shares, n=4, method="inclusive")
    title = f"{load.videos} videos, batches of {load.batch_size}, {load.tokens} tokens"
    print(f"\n{title:<44}{'videos/s':>9}{'first s':>9}")
    rates, first, busy = {}, {}, {}
    for name, passes in (("ours", ours), ("bare", bare)):
        rates[name] = load.videos / statistics.median(one.seconds for one in passes)
        first[name] = statistics.median(one.first_s for one in passes)
        print(f"{LABELS[name]:<44}{rates[name]:>9.2f}{first[name]:>9.2f}")
        if samples := [percent for one in passes for percent in one.busy]:
            busy[name] = statistics.mean(samples) / 100
            print(f"{'the GPU was busy':<44}{busy[name]:>9.2f}")
    print(f"ours over bare, {pairs} pairs: median {share:.3f}, quartiles {low:.3f}, {high:.3f}")
    print(f"{len(set(ours[-1].texts))} different captions, the same from both", flush=True)
    return {
        **dataclasses.asdict(load),
        "videos_per_s": rates,
        "first_caption_s": first,
        "gpu_busy": busy,
        "share": share,
        "share_quartiles": [low, high],
    }


def _film(window: tuple[Path, ...], target: Path) -> None:
    """Make a video that shows each frame for a second."""
    pattern = window[0].with_name("%06d.jpg")
    shown = ffmpeg.input(str(pattern), framerate=1, start_number=window[0].stem)
    options = {"vframes": FRAMES, "vcodec": "mpeg4", "q:v": 2}
    measure.write(shown.output(str(target), **options))


class Store:
    """Videos whose frames are there and whose captions are not, in one shard."""

    def __init__(self, folder: Path, model: Path, frames: list[Path], count: int) -> None:
        self.folder, self.config = folder, folder / "config.yaml"
        (folder / "videos").mkdir(parents=True)
        for number, window in enumerate(windows(frames, count)):
            _film(window, folder / f"videos/{number:04d}.mp4")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        off = {"enabled": False}
        section = {
            "captioner_backend": "qwen2-vl",
            "model_name": str(model),
            "num_frames": FRAMES,
            "max_new_tokens": SHORT,
            "device": self._device,
            "num_workers": 1,
        }
        places = {"video_dir": str(folder / "videos"), "output_dir": str(folder / "out")}
        wanted = places | {"audio": off, "transcript": off, "caption": section}
        self.config.write_text(yaml.safe_dump(wanted))
        self._chosen = config.load(wanted)
        self._index = index.scan(self._chosen)
        self._fingerprints = steps.fingerprints(self._chosen)
        [self._shard] = self._index.shards
        context = Context(self._index.layout, steps.section(self._chosen, "frames"), 1)
        marker = self._marker("frames")
        made = runner.run("frames", self._fingerprints["frames"], self._shard, context, marker)
        assert made == {"current": 0, "ok": count}, made

    def build(self) -> tuple[Cost, int]:
        """`snakemake manifest`, and how often a model was loaded for it."""
        gpu = ("--resources", "gpu=1") if self._device == "cuda" else ()
        command = measure.ours(self.config, "--cores", "1", *gpu, "manifest")
        cost, _ = measure.run(command, self.folder)
        lines = (self.folder / "out/manifest_v1.jsonl").read_text().splitlines()
        assert len(lines) == len(self._shard.videos), len(lines)
        return cost, self._loads()

    def job(self) -> Cost:
        """Run the job of the whole shard, as the rule does."""
        shard_path = self._index.layout.shard(self._shard.name)
        return self._step("--shard", str(shard_path), "--marker", str(self._marker(STEP)))

    def job_of_one(self, number: int) -> Cost:
        """Run the job of one video, as the rule does."""
        video = self._shard.videos[number]
        return self._step("--folder", video.folder, "--video", video.hash)

    def _step(self, *what: str) -> Cost:
        path = self._index.layout.settings(STEP, self._fingerprints[STEP])
        order = {"step": STEP, "fingerprint": self._fingerprints[STEP]}
        order |= {"output_dir": self._chosen.output_dir}
        write_json(
            path, order | {"settings": steps.section(self._chosen, STEP).model_dump(mode="json")}
        )
        command = [sys.executable, "-m", "spark_trainer", "step", "--settings", str(path), *what]
        command += ["--threads", "1", "--gpus", str(int(self._device == "cuda"))]
        before = self._loads()
        cost, _ = measure.run([*command, "--log", str(self.folder / "job.log")], self.folder)
        assert self._loads() == before + 1
        return cost

    def _loads(self) -> int:
        """Models loaded by every command so far, as their logs tell."""
        logs = self.folder.glob("runs/logs/*/spark_trainer.log")
        return sum(log.read_text().count(f"{STEP}: loaded ") for log in logs)

    def _marker(self, step: str) -> Path:
        return self._index.marker(step, self._fingerprints[step], self._shard)


def _row(label: str, cost: Cost) -> dict[str, float]:
    """Print a command's cost; its peak would be this process's, from which it is forked."""
    print(f"{label:<44}{cost.wall_s:>9.2f}{cost.cpu_s:>9.2f}", flush=True)
    return {"wall_s": cost.wall_s, "cpu_s": cost.cpu_s}


def _heading(title: str) -> None:
    print(f"\n{title:<44}{'wall s':>9}{'CPU s':>9}")


def loads(base: Path, model: Path, frames: list[Path], counts: list[int]) -> Measured:
    """How often a build loads the model, for few videos and for many."""
    found, targets = {}, []
    _heading("snakemake manifest, frames there")
    for count in counts:
        cost, loaded = Store(base / f"build-{count}", model, frames, count).build()
        found[str(count)] = {"loads": loaded, **_row(f"{count} videos, loads: {loaded}", cost)}
        targets.append(Target(f"loads of the model for {count} videos, one device", loaded, 1))
    return {"builds": found}, targets


def starts(base: Path, model: Path, frames: list[Path], few: int, repeats: int) -> Measured:
    """One job over a shard against one process for each video, of which some are run."""
    _heading(f"caption jobs, {SHORT} tokens")
    each = Store(base / "each", model, frames, few)
    each.job_of_one(0)  # everything read once
    costs = [each.job_of_one(number) for number in range(1, repeats + 1)]
    single = _row(f"a process for one video, median of {repeats}", measure.median(costs))
    whole = Store(base / "whole", model, frames, few).job()
    figures = {"process_per_video": single, "shard": _row(f"a job over {few} videos", whole)}
    times = statistics.mean(cost.wall_s for cost in costs) * few / whole.wall_s
    print(f"{few} processes would take {times:.1f} times as long: {repeats} were run", flush=True)
    target = Target(f"a job over {few} videos / {few} processes, wall", 1 / times, 1 / MIN_TIMES)
    return figures | {"times": times, "processes_run": repeats}, [target]


def measured(base: Path, options: Options) -> Measured:
    """Measure what `only` names."""
    environment.tune_jobs()  # as the workflow's jobs
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    figures: dict[str, Any] = {}
    targets: list[Target] = []
    frames = pictures(base / "pictures")
    model = train_setup.checkpoint(base / "model", SMALL, SIDE)
    if "loops" in options.only:
        sizes = (options.videos, options.batch_size, options.tokens, options.workers)
        load = Load("cpu", *sizes)
        figures["loops"] = loops(model, frames, load, options.pairs)
        share = figures["loops"]["share"]
        targets.append(Target("bare loop / ours, videos/s", 1 / share, 1 / MIN_SHARE))
    if "loads" in options.only:
        found, judged = loads(base, model, frames, options.counts)
        figures, targets = figures | found, targets + judged
    if "starts" in options.only:
        few, repeats = options.counts[0], options.repeats
        found, judged = starts(base, model, frames, few, repeats)
        figures, targets = figures | found, targets + judged
    return figures, targets


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        videos=(64, 4, "of a pass of the loops"),
        tokens=(128, 4, "of a caption in the loops"),
        batch_size=(8, 2, "of the loops"),
        workers=(1, 1, "reading ahead of the engine"),
        pairs=(5, 2, "passes of ours and the bare loop"),
        counts=([64, 256], [2], "videos of the builds; the first of the jobs, too"),
        repeats=(6, 1, "processes for one video each"),
        only=(["loops", "loads", "starts"],) * 2 + ("parts",),
    )
