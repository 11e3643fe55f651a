"""A wrong configuration stops with the key's path and what was expected."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spark_trainer import config

REWARDED = {"reward_funcs": ["exact"]}
LEARNING = {"model_type": "rft", "global_batch_size": 8, "rft": REWARDED}
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"bogus": 1}, "bogus", "unknown key; expected one of: audio, caption"),
    (
        {"frames": {"bogus": 1}},
        "frames.bogus",
        "expected one of: damaged, deinterlace, enabled, frame_rate",
    ),
    ({"train": {"bogus": 1}}, "train.bogus", "unknown key"),
    ({"train": {"wandb_project": "x"}}, "train.wandb_project", "gone; expected `trackers: "),
    ({"train": {"trackers": ["aim"]}}, "train.trackers.0", "'mlflow', 'trackio' or 'wandb'"),
    ({"train": {"split": {"bogus": 1}}}, "train.split.bogus", "one of: seed, test, validation"),
    ({"train": {"runs": {"x": {"bogus": 1}}}}, "train.runs.x.bogus", "unknown key"),
    (
        {"train": {"runs": {"x": {"split": {"bogus": 1}}}}},
        "train.runs.x.split.bogus",
        "one of: seed, test, validation",
    ),
    ({"frame_rate": -1}, "frame_rate", "expected greater than 0 (got -1)"),
    ({"frames": {"frame_rate": "x"}}, "frames.frame_rate", "expected a number (got 'x')"),
    ({"frame_rate": float("inf")}, "frame_rate", "expected a finite number"),
    ({"frames": {"enabled": "maybe"}}, "frames.enabled", "expected true or false (got 'maybe')"),
    ({"frames": {"damaged": "keep"}}, "frames.damaged", "expected 'use' or 'reject'"),
    ({"audio": {"track": "x"}}, "audio.track", "'default' or a whole number or a code such as"),
    ({"transcript": {"language": "xx"}}, "transcript.language", "expected one of af, am"),
    ({"transcript": {"compute_type": "int8"}}, "transcript.compute_type", "float16 or float32"),
    ({"transcript": {"gpu_fraction": 0}}, "transcript.gpu_fraction", "greater than 0 (got 0)"),
    ({"video_dir": 3}, "video_dir", "expected text or a list (got 3)"),
    ({"video_dir": ["a", 4]}, "video_dir.1", "expected text (got 4)"),
    ({"index": {"extensions": ".mp4"}}, "index.extensions", "expected a list"),
    ({"frames": 5}, "frames", "expected a section of keys (got 5)"),
    ({"frames": 5, "frame_rate": 2.0}, "frames", "expected a section of keys (got 5)"),
    ({"frames": None}, "frames", "expected a section of keys"),
    (
        {"frame_rate": 1.0, "frames": {"frame_rate": 2.0}},
        "frame_rate",
        "1.0 here, but 2.0 in frames.frame_rate; expected one of the two",
    ),
    (
        {"caption": {"captioner_backend": "clip"}},
        "caption.captioner_backend",
        "'qwen2-vl' or 'sidecar' or a list (got 'clip')",
    ),
    ({"audio": {"enabled": False}}, "transcript.enabled", "expected audio.enabled to be true"),
    ({"frames": {"enabled": False}}, "caption.enabled", "expected frames.enabled to be true"),
    ({"train": {"batch_size": 0}}, "train.batch_size", "greater than or equal to 1 (got 0)"),
    ({"train": {"model_type": "rft"}}, "train.rft.reward_funcs", "the name of a reward"),
    (
        {"train": {"model_type": "rft", "rft": {"reward_funcs": ["exact"]}}},
        "train.global_batch_size",
        "expected the number of prompts in an update with model_type: rft",
    ),
    (
        {"train": LEARNING | {"max_length": 256}},
        "train.rft.max_completion_length",
        "below max_length, 256",
    ),
    (
        {"train": LEARNING | {"rft": REWARDED | {"vllm": {"server_url": "localhost:8000"}}}},
        "train.rft.vllm.server_url",
        "expected http://…/v1 or https://…/v1 (got 'localhost:8000')",
    ),
    (
        {"train": {"rft": {"reward_funcs": ["exact"]}}},
        "train.model_type",
        "expected rft with rft.reward_funcs",
    ),
    (
        {"train": {"rft": {"rewards": {"format": {"pattern": "("}}}}},
        "train.rft.rewards.format.pattern",
        "expected a regular expression, but missing ), unterminated subpattern at position 0 "
        "(got '(')",
    ),
    ({"train": {"text": {"prompt": "{"}}}, "train.text.prompt", "expected a template, but"),
    (
        {
            "train": LEARNING
            | {"fsdp": True, "rft": REWARDED | {"vllm": {"server_url": "http://localhost:8000/v1"}}}
        },
        "train.use_deepspeed, fsdp",
        "expected false with rft.vllm.server_url",
    ),
    (
        {"train": LEARNING | {"bucketing": True}},
        "train.bucketing",
        "none or false with model_type: rft",
    ),
    ({"train": LEARNING | {"compile": True}}, "train.compile", "false with model_type: rft"),
    (
        {"train": LEARNING | {"encode_vision": True}},
        "train.encode_vision",
        "false with model_type: rft",
    ),
    (
        {"train": LEARNING | {"packing": True, "packing_length": 9000}},
        "train.packing_length",
        "none with model_type: rft",
    ),
    (
        {"train": LEARNING | {"max_steps": 3, "rft": REWARDED | {"num_iterations": 2}}},
        "train.max_steps",
        "a multiple of rft.num_iterations, 2",
    ),
    (
        {"train": LEARNING | {"rft": REWARDED | {"num_generations": 1}}},
        "train.rft.num_generations",
        "greater than or equal to 2 (got 1)",
    ),
    (
        {"train": LEARNING | {"rft": REWARDED | {"temperature": 0}}},
        "train.rft.temperature",
        "greater than 0 (got 0)",
    ),
    (
        {"train": {"model_type": "diffusion"}},
        "train.clip.fps, clip.stride",
        "expected one of the two for diffusion",
    ),
    (
        {"train": {"clip": {"num_frames": [8, 16]}}},
        "train.clip.num_frames",
        "one number without fps or stride",
    ),
    (
        {"train": {"clip": {"fps": 8, "stride": 2}}},
        "train.clip.fps, stride",
        "expected one of the two",
    ),
    (
        {"train": {"clip": {"fps": 8, "seconds": 2}}},
        "train.clip.seconds",
        "expected none with fps or stride",
    ),
    (
        {"train": {"clip": {"jpeg_decoding": "scaled"}}},
        "train.clip.jpeg_decoding",
        "expected full without max_side_px or sizes",
    ),
    (
        {"train": {"clip": {"jpeg_decoding": "scaled", "source": "video", "max_side_px": 64}}},
        "train.clip.jpeg_decoding",
        "expected full with source: video",
    ),
    (
        {"train": {"clip": {"sizes": [[64, 64]], "max_side_px": 64}}},
        "train.clip.max_side_px",
        "expected none with sizes",
    ),
    ({"train": {"model_type": "x"}}, "train.model_type", "expected 'vision_language', 'diffusion'"),
    ({"train": {"use_deepspeed": True}}, "train.deepspeed_config", "expected a JSON file"),
    (
        {"train": {"use_deepspeed": True, "deepspeed_config": "x.json", "fsdp": True}},
        "train.fsdp",
        "expected false with use_deepspeed",
    ),
    ({"train": {"fsdp": True, "ema_decay": 0.9}}, "train.ema_decay", "expected none with fsdp"),
    (
        {"train": {"fsdp": True, "finetune": "qlora"}},
        "train.finetune",
        "expected full or lora with fsdp",
    ),
    (
        {"train": {"fsdp": True, "optimizer": "adamw_8bit"}},
        "train.optimizer",
        "expected adamw with fsdp",
    ),
    (
        {"train": {"fsdp": True, "mixed_precision": "fp16"}},
        "train.mixed_precision",
        "expected bf16 or no with fsdp",
    ),
    (
        {"train": {"nodes": 2, "use_accelerate": False}},
        "train.use_accelerate",
        "one bare process uses one GPU",
    ),
    (
        {"train": {"runs": {"x": {"model_type": "rft"}}}},
        "train.runs.x.rft.reward_funcs",
        "the name of a reward",
    ),
    (
        {"train": {"model_type": "asr", "clip": {"fps": 8}}},
        "train.clip.fps",
        "expected none for asr",
    ),
    (
        {"train": {"model_type": "asr", "packing": True}},
        "train.packing",
        "expected false for asr",
    ),
    (
        {"train": {"model_type": "asr", "finetune": "lora", "save": "adapter"}},
        "train.asr.export",
        "expected [hf] with save: adapter for asr",
    ),
    (
        {"train": {"model_type": "asr", "text": {"prompt": "listen"}}},
        "train.text.prompt",
        "expected none for asr",
    ),
    (
        {"train": {"model_type": "asr", "asr": {"language": "xx"}}},
        "train.asr.language",
        "expected one of af, am",
    ),
    (
        {"train": {"model_type": "asr", "asr": {"export": ["ct2"]}}},
        "train.asr.export",
        "expected hf among them",
    ),
    ({"train": {"runs": {"x": {"batch_size": 0}}}}, "train.runs.x.batch_size", "equal to 1"),
    ({"train": {"batch_size": 10**20}}, "train.batch_size", "less than or equal to 65536"),
    (
        {"train": {"batch_size": 4096, "gradient_accumulation_steps": 4096}},
        "train.batch_size",
        "16,777,216 samples of one update",
    ),
    (
        {"train": {"packing_length": 8192}},
        "train.packing_length",
        "expected none without packing",
    ),
    (
        {"train": {"packing": True, "packing_length": 4096}},
        "train.packing_length",
        "expected at least max_length, 8192 (got 4096)",
    ),
    (
        {"train": {"gradient_checkpointing": "some"}},
        "train.gradient_checkpointing",
        "expected true or false or a whole number or 'selective' or 'attention' or 'auto' "
        "(got 'some')",
    ),
    (
        {
            "train": {
                "gradient_checkpointing": "selective",
                "use_deepspeed": True,
                "deepspeed_config": "zero.json",
            }
        },
        "train.gradient_checkpointing",
        "expected auto, true, false or a number with use_deepspeed",
    ),
    (
        {"train": {"compile": "layers", "gradient_checkpointing": "attention"}},
        "train.gradient_checkpointing",
        "expected auto, true, false or a number with compile: layers",
    ),
    (
        {"train": {"compile": "layers", "finetune": "qlora"}},
        "train.finetune",
        "expected full or lora with compile: layers",
    ),
    (
        {"train": {"compile": True, "fsdp": True}},
        "train.compile",
        "expected false or layers with fsdp",
    ),
    ({"train": {"continue_from": ""}}, "train.continue_from", "expected text that is not empty"),
    ({"train": {"model_name": ""}}, "train.model_name", "expected text that is not empty"),
    ({"frame_rate": math.nan}, "frame_rate", "expected a finite number"),
    ({"output_dir": "a\0b"}, "output_dir", "expected a path that a file can have"),
    ({"output_dir": "a\udcff"}, "output_dir", "expected a path in UTF-8"),
    ({"video_dir": ["a", "b\ud83d"]}, "video_dir", "expected a path that a file can have"),
    ({"train": {"runs": {"x": 5}}}, "train.runs.x", "expected a section of keys (got 5)"),
    ({"train": {"runs": {"a/b": {}}}}, "train.runs.a/b", "letter or digit first"),
    (
        {"train": {"runs": {"x": {"split": {"validation": 0.6, "test": 0.6}}}}},
        "train.runs.x.split.validation, test",
        "expected a sum below 1",
    ),
]


@pytest.mark.parametrize(("data", "key", "expected"), WRONG, ids=[key for _, key, _ in WRONG])
def test_message_names_key_and_expectation(data: dict[str, Any], key: str, expected: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.load(data)
    assert str(caught.value).startswith(f"{key}: ")
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_wrong_key_has_its_line() -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.load({"frame_rate": 0, "audio": {"channels": 3}, "bogus": 1})
    keys = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert keys == {"frame_rate", "audio.channels", "bogus"}


def test_every_wrong_run_key_has_its_line() -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.load({"train": {"runs": {"x": {"batch_size": 0, "bogus": 1}}}})
    keys = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert keys == {"train.runs.x.batch_size", "train.runs.x.bogus"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "expected a mapping of keys"),
        ("a: [\n", "line 2"),
        ("frame_rate: 0\n", "frame_rate: "),
        ("a: 1\nb: 2\n", "b: unknown key; expected one of: "),
        ("frames: {}\nframes: {}\n", "expected YAML (the key 'frames' stands twice"),
    ],
)
def test_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(config.ConfigError) as caught:
        config.read(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="No such file"):
        config.read(tmp_path / "none.yaml")


def test_flat_keys_are_those_of_their_sections() -> None:
    flat = config.load({"frame_rate": 2, "whisper_model": "tiny", "captioner_backend": "blip"})
    nested = config.load(
        {
            "frames": {"frame_rate": 2},
            "transcript": {"whisper_model": "tiny"},
            "caption": {"captioner_backend": "blip"},
        }
    )
    assert flat == nested


def test_what_runs_share_may_lack_what_each_says() -> None:
    sizes = {"fps": 8, "sizes": [[64, 64]]}
    shared = {"model_type": "diffusion", "runs": {"a": {"clip": sizes}, "b": {"clip": sizes}}}
    assert set(config.load({"train": shared}).runs) == {"a", "b"}
    shared["runs"] |= {"c": {}}
    with pytest.raises(
        config.ConfigError, match=r"^train\.runs\.c\.clip\.fps, clip\.stride: expected"
    ):
        config.load({"train": shared})


def test_runs_differ_only_in_what_they_say() -> None:
    shared = {"batch_size": 4, "split": {"validation": 0.3, "seed": 1}}
    runs = {"a": {}, "b": {"batch_size": 2, "split": {"seed": 2}}}
    found = config.load({"train": {**shared, "runs": runs}}).runs
    assert found["a"] == config.Run.model_validate(shared)
    assert found["b"].batch_size == 2
    assert found["b"].split == config.Split(validation=0.3, seed=2)


def test_unquoted_no_is_a_precision(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  mixed_precision: no\n", encoding="utf-8")
    assert config.read(path).runs["default"].mixed_precision == "no"


def test_a_key_that_a_captioner_does_not_read_decides_nothing() -> None:
    tags, words = {"captioner_backend": "imagenet-tags"}, {"captioner_backend": "blip"}
    for keys in ({"num_beams": 3}, {"prompt": "a"}, {"model_name": "b"}, {"dtype": "float16"}):
        assert config.Captioning(**tags, **keys).results() == config.Captioning(**tags).results()
        assert config.Captioning(**words, **keys).results() != config.Captioning(**words).results()
    strict = {"threshold": 0.9}
    assert config.Captioning(**tags, **strict).results() != config.Captioning(**tags).results()
    assert config.Captioning(**words, **strict).results() == config.Captioning(**words).results()


def test_runtime_settings_decide_no_result() -> None:
    slow, fast = config.Caption(batch_size=1, device="cpu"), config.Caption(batch_size=64)
    assert slow.results() == fast.results()
    assert config.Caption(num_beams=2).results() != fast.results()
    ways = (True, 1, 3, "attention", "auto")
    again = [config.Run(gradient_checkpointing=how).results() for how in ways]
    assert all(one == again[0] != config.Run().results() for one in again)
    rows = {"packing": True, "packing_length": 8192}
    assert config.Run(**rows).results() == config.Run(packing=True).results()


def test_nothing_heavy_is_imported_and_it_is_quick() -> None:
    """On an idle machine the whole import takes 0.26 s, nearly all of it pydantic's.

    What is bounded is our own share, in CPU seconds, the best of three: a busy machine doubles
    pydantic's.
    """
    code = (
        "import sys, time, yaml, pydantic\n"
        "class Model(pydantic.BaseModel): number: float = pydantic.Field(1.0, gt=0)\n"
        "Model()\n"
        "start = time.process_time()\n"
        "import spark_trainer.config\n"
        "print(time.process_time() - start)\n"
        "print(sorted({'torch', 'transformers', 'av', 'numpy', 'PIL'} & set(sys.modules)))\n"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    seconds, heavy = zip(*(output.stdout.splitlines() for output in outputs), strict=True)
    assert set(heavy) == {"[]"}
    assert min(map(float, seconds)) < 0.1
