"""Captions by vLLM's engine in the job: over `on_cpu/vllm`, and over vLLM where it is installed."""

import importlib
import inspect
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from spark_trainer import captioners, config, steps
from spark_trainer.captioners import Captioner, Shown, Trouble, engine
from spark_trainer.config import Captioning, ConfigError
from spark_trainer.errors import MachineError
from spark_trainer.preflight import needs
from tests.steps.conftest import CLIPS, Built, run_steps

from .recipes import KINDS, Kind

ON_CPU = Path(__file__).parent / "on_cpu"
SEE_VIDEOS = [kind for kind in KINDS if kind.sees_video]
DEVICE = os.environ.get("SPARK_TRAINER_TEST_DEVICE", "cuda")
INSTALLED = "caption.engine: vllm"

# vLLM 0.33.0: vllm/entrypoints/llm.py, without annotations.
SIGNATURES = {
    "enqueue": "(self, prompts, sampling_params=None, lora_request=None, priority=None, "
    "use_tqdm=True, tokenization_kwargs=None, mm_processor_kwargs=None)",
    "get_default_sampling_params": "(self)",
    "wait_for_completion": "(self, output_type=None, *, use_tqdm=True)",
}
# The same file and vllm/engine/arg_utils.py, of those that are given.
STARTED_WITH = {
    *("model", "trust_remote_code", "tensor_parallel_size", "dtype", "revision"),
    *("tokenizer_revision", "gpu_memory_utilization", "mm_processor_kwargs", "load_format"),
    *("max_model_len", "limit_mm_per_prompt", "mm_processor_cache_gb"),
}
# vllm/sampling_params.py, with their defaults.
DECODED_WITH = {"temperature": 1.0, "max_tokens": 16, "repetition_penalty": 1.0}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Install the package of `on_cpu` under a version, and import it."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
            del sys.modules[name]

    def run(version: str) -> Any:
        facts = tmp_path / f"site/vllm-{version}.dist-info/METADATA"
        facts.parent.mkdir(parents=True)
        facts.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
        for folder in (facts.parent.parent, ON_CPU):
            monkeypatch.syspath_prepend(str(folder))
        return importlib.import_module("vllm")

    forget()
    yield run
    forget()


@pytest.fixture
def vllm(install: Callable[[str], Any]) -> Any:
    """The package of `on_cpu`."""
    return install("0.33.0")


@pytest.fixture(scope="module")
def qwen2_vl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2-VL."""
    (kind,) = (kind for kind in KINDS if kind.name == "qwen2_vl")
    return kind.make(tmp_path_factory.mktemp(kind.name))


def settings(folder: Path, engine: str, backend: str = "qwen2-vl", **keys: Any) -> Captioning:
    return Captioning(
        captioner_backend=backend,
        model_name=str(folder),
        prompt="Describe the video.",
        engine=engine,
        **{"max_new_tokens": 12, "dtype": "float32"} | keys,
    )


def shown(pictures: list[Path], folder: Path) -> list[Shown]:
    """Videos of one to four frames, of other sizes and other times."""
    made = []
    for number, (count, gap_s, size_px) in enumerate(
        [(4, 0.5, (80, 60)), (1, 1.0, (200, 50)), (3, 2.0, (40, 120)), (2, 1.0, (64, 64))]
    ):
        frames = tuple(folder / f"{number}_{place}.png" for place in range(count))
        for frame, picture in zip(frames, [*pictures[number:], *pictures], strict=False):
            with Image.open(picture) as image:
                image.convert("RGB").resize(size_px).save(frame)
        made.append(Shown(frames, tuple(gap_s * (0.5 + place) for place in range(count))))
    return made


def said(captioner: Captioner, videos: list[Shown], batch_size: int = 3) -> dict[int, Any]:
    return {n: text for n, text, _ in engine.run(captioner, videos, batch_size, 1)}


def methods(package: Any) -> dict[str, str]:
    found = {}
    for name in SIGNATURES:
        whole = inspect.signature(getattr(package.LLM, name))
        bare = [p.replace(annotation=p.empty) for p in whole.parameters.values()]
        found[name] = str(inspect.Signature(bare))
    return found


def decoded_with(package: Any) -> dict[str, Any]:
    parameters = inspect.signature(package.SamplingParams).parameters
    return {name: parameters[name].default for name in DECODED_WITH}


def test_the_package_of_these_tests_is_called_like_vllm(vllm: Any) -> None:
    assert methods(vllm) == SIGNATURES
    assert {*vllm.EngineArgs.__dataclass_fields__} == STARTED_WITH
    assert decoded_with(vllm) == DECODED_WITH


def test_vllm_is_called_as_it_wants_to_be() -> None:
    package = pytest.importorskip("vllm", reason="vLLM is looked at where it is installed")
    assert methods(package) == SIGNATURES
    assert {*package.EngineArgs.__dataclass_fields__} >= STARTED_WITH
    assert decoded_with(package) == DECODED_WITH


@pytest.mark.gpu
def test_vllm_itself_says_what_transformers_says(
    qwen2_vl: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    """vLLM's kernels take heads of 32 and wider, where the tiny model's have 16."""
    pytest.importorskip("vllm", reason="vLLM's engine is tried where it is installed")
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("vLLM's engine needs a GPU")
    folder = shutil.copytree(qwen2_vl, tmp_path / "wide")
    chosen = transformers.AutoConfig.from_pretrained(folder)
    chosen.text_config.num_attention_heads, chosen.text_config.num_key_value_heads = 2, 1
    chosen.text_config.rope_parameters["mrope_section"] = [4, 6, 6]
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(chosen)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)  # so wide that other pictures give other texts
    model.save_pretrained(folder)
    videos = shown([*pictures.values()], tmp_path)
    theirs = said(captioners.load(settings(folder, "transformers"), DEVICE), videos)
    assert len({*theirs.values()}) > 1
    assert said(captioners.load(settings(folder, "vllm", gpu_fraction=0.1)), videos) == theirs


@pytest.mark.parametrize("kind", SEE_VIDEOS, ids=[kind.name for kind in SEE_VIDEOS])
def test_captions_are_those_of_transformers(
    kind: Kind, vllm: Any, pictures: dict[str, Path], tmp_path: Path
) -> None:
    """Frames, their order, their times, the prompt and the decoding are the same."""
    folder = kind.make(tmp_path / kind.name)
    videos = shown([*pictures.values()], tmp_path)
    for keys in ({}, {"max_side_px": 32}, {"repetition_penalty": 1.5, "max_new_tokens": 5}):
        ours, theirs = (
            said(captioners.load(settings(folder, name, kind.backend, **keys)), videos)
            for name in ("vllm", "transformers")
        )
        assert ours == theirs
        assert len({*theirs.values()}) > 2


def test_one_frame_is_an_image_and_several_are_a_video(
    vllm: Any, qwen2_vl: Path, pictures: dict[str, Path]
) -> None:
    ours = captioners.load(settings(qwen2_vl, "vllm"))
    frames = [*pictures.values()]
    every = [frames, frames[::-1], frames[:-1], frames[:1]]
    assert len({*ours.predict_batch(every)}) == len(every)


@pytest.fixture
def build(
    vllm: Any, qwen2_vl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Built]:
    """Run steps on two videos and half of a made-up GPU; the first name is a step's."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("SPARK_TRAINER_GPU_LEASES", str(tmp_path / "leases"))
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("dog.mp4", "cup.mp4"):
        (videos / name).symlink_to(CLIPS / name)
    keys = {"captioner_backend": "qwen2-vl", "model_name": str(qwen2_vl), "engine": "vllm"}
    keys |= {"num_frames": 2, "max_new_tokens": 4, "gpu_fraction": 0.5, "dtype": "float32"}

    def run(*names: str) -> Built:
        return run_steps(videos, tmp_path / "out", names, {"caption": keys})

    return run


STEP = "caption/qwen2-vl"


def test_a_record_tells_the_engine_and_a_bad_video_costs_itself_alone(
    build: Callable[..., Built], vllm: Any
) -> None:
    """Qwen takes no picture more than 200 times as high as wide."""
    built = build("frames")
    for frame in built.frames("cup.mp4"):
        Image.new("RGB", (3, 640)).save(frame)
    built = build(STEP)
    record = built.record("dog.mp4", STEP)
    assert record["caption"]
    assert (record["engine"], record["packages"]["vllm"]) == ("vllm", "0.33.0")
    assert (record["device"], record["dtype"]) == ("cuda", "float32")
    refused = built.record("cup.mp4", STEP)
    assert (refused["status"], refused["caption"]) == ("none", None)
    assert refused["why"].startswith("unexpected ValueError: absolute aspect ratio must be smaller")
    given = vllm.LLM.started[-1]
    assert given.gpu_memory_utilization == 0.46
    assert (given.revision, given.tokenizer_revision) == ("main", "main")
    assert (given.trust_remote_code, given.load_format) == (False, "safetensors")


@pytest.mark.parametrize("where", ["enqueue", "wait_for_completion"])
def test_an_engine_that_ends_is_the_machines_trouble_and_marks_no_video(
    where: str, build: Callable[..., Built], vllm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    def ended(*_: Any, **__: Any) -> None:
        raise EngineDeadError

    built = build("frames")
    with monkeypatch.context() as patch:
        patch.setattr(vllm.LLM, where, ended)
        with pytest.raises(MachineError, match=r"^caption\.engine: vllm has ended: .*EngineDead"):
            build(STEP)
    for name in ("dog.mp4", "cup.mp4"):
        assert not steps.load(STEP).path(built.index.layout, built.video(name)).exists()
    assert build(STEP).record("dog.mp4", STEP)["caption"]


def test_memory_that_runs_out_in_the_engine_ends_it_too(
    vllm: Any, qwen2_vl: Path, pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is not halved: what is left in the queue would answer for the next."""

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    ours = captioners.load(settings(qwen2_vl, "vllm"))
    monkeypatch.setattr(vllm.LLM, "wait_for_completion", full)
    videos = [Shown((picture,), (0.0,)) for picture in pictures.values()]
    with pytest.raises(MachineError, match=r"vllm has ended: unexpected OutOfMemoryError"):
        said(ours, videos)


def test_a_caption_that_is_cut_off_is_tried_again(
    vllm: Any, qwen2_vl: Path, pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vllm.LLM.wait_for_completion

    def first_cut_off(*values: Any, **named: Any) -> Any:
        outputs = whole(*values, **named)
        outputs[0].outputs[0].finish_reason = "error"
        return outputs

    ours = captioners.load(settings(qwen2_vl, "vllm"))
    monkeypatch.setattr(vllm.LLM, "wait_for_completion", first_cut_off)
    cut, other = ours.caption([ours.prepare(Shown((p,), (0.0,))) for p in [*pictures.values()][:2]])
    assert cut == Trouble("vLLM cut the caption off: error", machine=True)
    assert isinstance(other, str)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ValueError("no such type"), ConfigError, r"^caption\.engine: vllm doesn't start: .*type"),
        (TypeError("unexpected keyword"), ConfigError, r"^caption\.engine: vllm doesn't start: "),
        (RuntimeError("Engine core"), MachineError, r"^caption\.engine: vllm doesn't start: "),
        (OSError("no weights"), ConfigError, r"^caption\.model_name .* can't be loaded: no weig"),
        (torch.OutOfMemoryError("CUDA"), torch.OutOfMemoryError, "CUDA"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whose_trouble_it_is_that_an_engine_does_not_start(
    error: Exception,
    kind: type[Exception],
    said: str,
    vllm: Any,
    qwen2_vl: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(vllm.LLM, "__init__", fails)
    with pytest.raises(kind, match=said):
        captioners.load(settings(qwen2_vl, "vllm"))


def test_a_version_that_lacks_what_is_called_is_refused(
    vllm: Any, qwen2_vl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(vllm.LLM, "enqueue")
    with pytest.raises(ConfigError, match=r"^caption\.engine: vllm 0\.33\.0 has no LLM\.enqueue; "):
        captioners.load(settings(qwen2_vl, "vllm"))


def found_before(tmp_path: Path, folder: Path) -> list[str]:
    """What is said before the first job of captions by vLLM, where there is no GPU."""
    section = {"captioner_backend": "qwen2-vl", "model_name": str(folder), "engine": "vllm"}
    chosen = config.load({"output_dir": str(tmp_path / "out"), "caption": section})
    due = needs.Due((STEP,), {}, 0)
    return [line for check in needs.CHECKS.values() for line in check(chosen, due)]


@pytest.mark.skipif(
    importlib.util.find_spec("vllm") is not None, reason="says what is missing where vLLM is"
)
def test_a_missing_package_is_named_with_its_key_before_the_first_job(
    qwen2_vl: Path, tmp_path: Path
) -> None:
    lines = found_before(tmp_path, qwen2_vl)
    missing = f"{INSTALLED} needs the package vllm>=0.32, which is not installed here"
    assert f"{missing}: pip install 'vllm>=0.32'" in lines
    with pytest.raises(ConfigError, match=r"^caption\.engine: vllm can't be imported: No module"):
        captioners.load(settings(qwen2_vl, "vllm"))


@pytest.mark.parametrize(("version", "fine"), [("0.31.0", False), ("0.33.1+cu130", True)])
def test_a_version_that_is_too_old_is_named_before_the_first_job(
    version: str, fine: bool, install: Callable[[str], Any], qwen2_vl: Path, tmp_path: Path
) -> None:
    install(version)
    lines = found_before(tmp_path, qwen2_vl)
    old = f"{INSTALLED} needs the package vllm>=0.32; {version} is installed here"
    old += ": pip install 'vllm>=0.32'"
    assert (old in lines) != fine


def test_without_a_gpu_the_build_stops_before_the_first_job(
    vllm: Any, qwen2_vl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [line.partition(":")[0] for line in found_before(tmp_path, qwen2_vl)] == [
        "caption.device"
    ]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_beams": 3}, r"num_beams: expected 1 with engine: vllm \(got 3\)"),
        ({"no_repeat_ngram_size": 2}, r"no_repeat_ngram_size: expected 0 with engine: vllm"),
        ({"quantization": "4bit"}, r"quantization: expected none with engine: vllm \(got 4bit\)"),
        ({"device": "auto"}, r"device: expected cuda with engine: vllm \(got auto\)"),
        ({"captioner_backend": "blip"}, r"engine: blip doesn't run in vLLM; expected transformers"),
    ],
)
def test_what_vllm_does_not_do_is_refused(keys: dict[str, Any], message: str) -> None:
    section = {"captioner_backend": "qwen2-vl", "engine": "vllm"} | keys
    with pytest.raises(ConfigError, match=rf"^caption\.{message}"):
        config.load({"caption": section})


def test_the_engine_makes_other_captions_and_its_share_of_a_gpu_does_not() -> None:
    ours, theirs = (
        Captioning(captioner_backend="qwen2-vl", engine=name) for name in ("vllm", "transformers")
    )
    assert ours.results() == theirs.results() | {"engine": "vllm"}
    share = Captioning(captioner_backend="qwen2-vl", engine="vllm", gpu_fraction=0.5)
    assert share.results() == ours.results()
