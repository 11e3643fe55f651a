"""What flags bring along and take back, and how that is said."""

from pathlib import Path
from typing import Any

import pytest

from spark_trainer import config
from spark_trainer.cli import flags
from spark_trainer.config import Config, Run
from spark_trainer.errors import UserError


def configured(**enabled: bool) -> Config:
    return config.load({name: {"enabled": state} for name, state in enabled.items()})


ALL = dict.fromkeys(("frames", "audio", "transcript", "caption"), True)


@pytest.mark.parametrize(
    ("off", "given", "enabled", "said"),
    [
        ((), {"frame_rate": 2.0, "captioner_backend": ["blip"]}, {}, []),
        (
            ("audio", "transcript"),
            {"transcribe": True},
            {"transcript": True, "audio": True},
            ["audio.enabled: false is taken back by --transcribe"],
        ),
        (
            ("audio", "transcript"),
            {"whisper_model": "base"},
            {"transcript": True, "audio": True},
            [
                "transcript.enabled: false is taken back by --whisper-model",
                "audio.enabled: false is taken back by --whisper-model",
            ],
        ),
        (
            ("caption",),
            {"captioner_backend": ["blip"]},
            {"caption": True},
            ["caption.enabled: false is taken back by --captioner-backend"],
        ),
        (
            (),
            {"extract_audio": False},
            {"audio": False, "transcript": False},
            ["transcript.enabled: true is taken back by --no-extract-audio"],
        ),
    ],
)
def test_a_flag_turns_its_step_on(
    off: tuple[str, ...], given: dict[str, Any], enabled: dict[str, bool], said: list[str]
) -> None:
    made = configured(**ALL | dict.fromkeys(off, False))
    assert flags.switches(made, given) == (enabled, said)


def test_a_flag_about_a_step_that_is_switched_off_is_refused() -> None:
    given = {"transcribe": False, "whisper_model": "base"}
    with pytest.raises(UserError, match="--whisper-model: transcript is switched off"):
        flags.switches(configured(**ALL), given)


def test_the_same_model_keeps_its_random_weights_and_says_so() -> None:
    run = Run(model_name="some/model", from_scratch=True, learning_rate=0.5)
    values, said = flags.over_run(run, {"model_name": "some/model"}, "train", 0)
    assert (values["from_scratch"], values["learning_rate"]) == (True, 0.5)
    assert said == ["train.from_scratch: true stays, --model-name names the same model"]


def test_a_folder_is_the_same_however_it_is_spelt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    run = Run(model_name="model", from_scratch=True)
    for name in ("./model", str(tmp_path / "model")):
        values, _ = flags.over_run(run, {"model_name": name}, "train", 0)
        assert values["from_scratch"]


def test_another_model_takes_random_weights_and_their_rate_back() -> None:
    run = Run(model_name="some/model", from_scratch=True, learning_rate=0.5)
    values, said = flags.over_run(run, {"model_name": "another"}, "train", 0)
    assert values == {"model_name": "another"}
    assert {line.partition(":")[0] for line in said} == {
        "train.from_scratch",
        "train.learning_rate",
    }


def test_a_model_of_another_kind_takes_back_what_was_set_for_the_first() -> None:
    asr = {"language": "en"}
    run = Run(model_type="asr", asr=asr, freeze=["encoder"], learning_rate=0.5, seed=1)
    given = {"model_type": "vision_language", "model_name": "another"}
    values, said = flags.over_run(run, given, "train", 0)
    assert values == given | {"seed": 1}
    assert said[0] == "train.asr is taken back by --model-type"
    assert len(said) == 3
    kept, _ = flags.over_run(run, {"model_type": "asr", "model_name": "another"}, "train", 0)
    assert kept["asr"]["language"] == "en"


def test_the_answers_in_memory_are_not_the_prompts_of_an_update() -> None:
    rft = {"reward_funcs": ["exact"]}
    run = Run(model_type="rft", global_batch_size=8, batch_size=16, rft=rft)
    values, said = flags.over_run(run, {"batch_size": 4}, "train", gpus=1)
    assert (values["batch_size"], values["global_batch_size"], said) == (4, 8, [])
