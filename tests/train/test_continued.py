"""`continue_from`, and which settings begin a run anew."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import ConfigError, Run
from spark_trainer.runs.folder import RunFolder
from spark_trainer.train import continued

from .conftest import train, write_run

SHORT = {"max_steps": 4, "eval_steps": 2, "schedule": "constant"}


def test_a_longer_run_goes_on_from_a_finished_one(make: Any) -> None:
    whole = train(write_run(make("whole", **SHORT | {"max_steps": 6})))
    base = write_run(make("slow", **SHORT))
    train(base)
    longer = make("slow", **SHORT | {"max_steps": 6, "continue_from": "slow"})
    assert (longer.base, longer.folder.path != base) == (RunFolder(base), True)
    folder = write_run(longer)
    said: list[str] = []
    continued.begin(RunFolder(base), RunFolder(folder), longer.run_id, said.append)
    assert said == [f"going on from {base}/checkpoints/step_00000004"]
    assert train(folder) == [line for line in whole if line["step"] > 4]
    assert "continues slow-" in (folder / "train.log").read_text()
    # Once begun, the name means what it meant, though two runs bear it now.
    again = make("slow", **SHORT | {"max_steps": 6, "continue_from": "slow"})
    assert (again.base, again.run_id) == (RunFolder(base), longer.run_id)
    with pytest.raises(ConfigError, match=r"train\.continue_from: 'slow' is several runs in "):
        make("slow", **SHORT | {"max_steps": 9, "continue_from": "slow"})
    further = make("slow", **SHORT | {"max_steps": 9, "continue_from": longer.run_id})
    assert further.base == RunFolder(folder)


def test_another_schedule_jumps_to_where_it_is_then(make: Any) -> None:
    settings = SHORT | {"schedule": "linear"}
    base = write_run(make("slow", **settings))
    assert train(base)[-2]["learning_rate"] == pytest.approx(2.5e-4)
    longer = make("slow", **settings | {"max_steps": 8, "continue_from": "slow"})
    folder = write_run(longer)
    continued.begin(RunFolder(base), RunFolder(folder), longer.run_id, str)
    rates = [line["learning_rate"] for line in train(folder) if "loss" in line]
    assert rates == pytest.approx([5e-4, 3.75e-4, 2.5e-4, 1.25e-4])


def test_after_an_early_stop_patience_begins_anew(make: Any) -> None:
    settings = {"learning_rate": 0.02, "schedule": "constant", "max_steps": 200, "eval_steps": 2}
    settings |= {"early_stopping": 3}
    base = write_run(make("slow", **settings))
    stopped = int(train(base)[-1]["step"])
    longer = make("slow", **settings | {"continue_from": "slow"})
    folder = write_run(longer)
    continued.begin(RunFolder(base), RunFolder(folder), longer.run_id, str)
    curve = train(folder)
    evaluated = [int(line["step"]) for line in curve if "held_out_loss" in line]
    assert evaluated[:3] == [stopped + 2, stopped + 4, stopped + 6]
    # What was counted since is kept where the run itself is interrupted.
    shutil.rmtree(RunFolder(folder).saved_checkpoints()[-1])
    assert train(folder) == curve


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"continue_from": "fast"}, r"'fast' is no run in .*; expected one of: slow-"),
        ({"learning_rate": 0.5}, r"learning_rate: 0\.001 there, 0\.5 here"),
        ({"split": {"validation": 0.5}}, r"split\.validation: 0\.25 there, 0\.5 here"),
        ({"max_steps": 4}, r"it is at update 4; expected max_steps above that \(got 4\)"),
    ],
    ids=str,
)
def test_what_can_not_go_on_is_named(make: Any, settings: dict[str, Any], message: str) -> None:
    base = write_run(make("slow", **SHORT))
    RunFolder(base).checkpoint(4).mkdir(parents=True)
    with pytest.raises(ConfigError, match=rf"train\.continue_from: .*{message}"):
        make("slow", **SHORT | {"max_steps": 8, "continue_from": "slow"} | settings)


def test_other_data_and_no_checkpoint_are_named(make: Any, manifest: Path) -> None:
    base = write_run(make("slow", **SHORT))
    settings = SHORT | {"max_steps": 8, "continue_from": str(base)}
    with pytest.raises(ConfigError, match="it has no checkpoint"):
        make("slow", **settings)
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(ConfigError, match="expected the same but max_steps, num_epochs; data: "):
        make("slow", **settings)


def test_a_broken_checkpoint_of_the_other_stays_where_it_is(make: Any) -> None:
    base = write_run(make("slow", **SHORT))
    train(base)
    last = RunFolder(base).checkpoint(4)
    (last / "step.json").write_text("{}")
    longer = make("slow", **SHORT | {"max_steps": 6, "continue_from": "slow"})
    folder = write_run(longer)
    said: list[str] = []
    continued.begin(RunFolder(base), RunFolder(folder), longer.run_id, said.append)
    assert "step_00000004 is broken and left out: step.json" in said[0]
    assert last.exists()
    assert min(line["step"] for line in train(folder)) == 3
    shutil.rmtree(folder / "checkpoints")
    for saved in RunFolder(base).saved_checkpoints():
        (saved / "digests.json").unlink()
    with pytest.raises(ConfigError, match=r"no checkpoint in .* is whole"):
        continued.begin(RunFolder(base), RunFolder(folder), longer.run_id, str)


SAME = [
    *({key: 7} for key in ("keep_checkpoints", "checkpoint_steps", "eval_steps", "num_samples")),
    *({key: 7} for key in ("max_new_tokens", "num_sampling_steps")),
    {"max_skipped": 0.5},
    {"max_left_out": 0.9},
    {"allow_cpu": True},
    {"guidance_dropout": 0.5},
    {"encode": "each_step"},
    {"clip": {"replace": True, "reference": "random"}},
    {"lora": {"rank": 3}},
    {"save": "adapter"},
    {"deepspeed_config": "zero.json"},
    {"max_steps": 10, "num_epochs": 7},
]


@pytest.mark.parametrize("keys", SAME, ids=str)
def test_what_decides_nothing_begins_nothing_anew(keys: dict[str, Any]) -> None:
    plain = {"max_steps": keys["max_steps"]} if "max_steps" in keys else {}
    assert Run(**keys).results() == Run(**plain).results()


@pytest.mark.parametrize(
    ("shared", "keys"),
    [
        ({"final": "best"}, {"eval_steps": 7}),
        ({"early_stopping": 2}, {"eval_steps": 7}),
        ({}, {"num_epochs": 7}),
        ({}, {"freeze": []}),
        ({"finetune": "lora"}, {"lora": {"rank": 3}}),
        ({"finetune": "lora"}, {"save": "adapter"}),
        ({}, {"split": {"seed": 3}}),
        ({}, {"max_length": 99}),
    ],
    ids=str,
)
def test_what_decides_something_does(shared: dict[str, Any], keys: dict[str, Any]) -> None:
    assert Run(**shared, **keys).results() != Run(**shared).results()


def test_of_diffusion_other_keys_are_read() -> None:
    diffusion = {"model_type": "diffusion", "clip": {"sizes": [[32, 32]], "fps": 4}}
    assert Run(**diffusion, max_length=99).results() == Run(**diffusion).results()
    assert Run(**diffusion, guidance_dropout=0.5).results() != Run(**diffusion).results()


@pytest.mark.parametrize("keys", [{"final": "best"}, {"early_stopping": 3}], ids=str)
def test_nothing_held_out_decides_nothing(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"split\.validation: expected above 0 with"):
        Run(split={"validation": 0.0}, **keys)


def test_a_changed_interval_takes_effect_in_the_same_folder(make: Any) -> None:
    made = make("run", **SHORT)
    folder = write_run(made)
    train(folder)
    shutil.rmtree(RunFolder(folder).checkpoint(4))
    other = make("run", **SHORT | {"eval_steps": 1})
    assert other.folder.path == folder
    told = json.loads((folder / "run.json").read_text())
    told["settings"] = other.settings.model_dump(mode="json")
    (folder / "run.json").write_text(json.dumps(told))
    evaluated = [line["step"] for line in train(folder) if "held_out_loss" in line]
    assert evaluated == [0, 2, 3, 4]
