"""`base_run`: which runs may begin with the weights of others."""

from typing import Any

import pytest

from spark_trainer.config import ConfigError, load

Runs = dict[str, dict[str, Any]]


def loaded(runs: Runs, **shared: Any) -> Any:
    return load({"train": {"model_name": "some/model", "runs": runs} | shared}).runs


def test_a_run_is_of_its_bases_model_down_the_chain() -> None:
    runs = loaded({"c": {"base_run": "b"}, "b": {"base_run": "a"}, "a": {"model_name": "its/own"}})
    assert [*runs] == ["c", "b", "a"]
    assert {run.model_name for run in runs.values()} == {"its/own"}


def test_the_id_asks_neither_for_the_bases_name_nor_for_the_models() -> None:
    one = loaded({"a": {}, "z": {"base_run": "a"}})["z"].results()
    two = loaded({"b": {"model_name": "x/y"}, "z": {"base_run": "b"}})["z"].results()
    assert one == two
    assert "base_run" not in loaded({"a": {}})["a"].results()


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"a": {"base_run": "b"}, "c": {}}, r"train\.runs\.a\.base_run: no run 'b' .* one of: c$"),
        ({"a": {"base_run": "a"}}, r"runs\.a\.base_run: .*; a → a is a circle"),
        (
            {"a": {"base_run": "b"}, "b": {"base_run": "c"}, "c": {"base_run": "a"}},
            r"base_run: expected a run that begins without this one; (\w → ){3}\w is a circle",
        ),
        (
            {"a": {}, "f": {"base_run": "a", "model_type": "diffusion", "clip": {"fps": 4}}},
            r"runs\.f\.base_run: expected none for diffusion",
        ),
        (
            {"a": {"base_run": "f"}, "f": {"model_type": "diffusion", "clip": {"fps": 4}}},
            r"runs\.a\.base_run: expected a run of a vision_language model; f is of a diffusion",
        ),
        (
            {"a": {"finetune": "lora", "save": "adapter"}, "b": {"base_run": "a"}},
            r"runs\.b\.base_run: expected a run with save: merged; a saves adapters",
        ),
        (
            {"a": {}, "b": {"base_run": "a", "model_name": "x/y"}},
            r"runs\.b\.model_name: expected none with base_run, .* \(got 'x/y'\)",
        ),
        (
            {"a": {}, "b": {"base_run": "a", "from_scratch": True}},
            r"runs\.b\.from_scratch: expected false with base_run",
        ),
        (
            {"a": {}, "b": {"base_run": "a", "encode_vision": True}},
            r"runs\.b\.encode_vision: expected false with base_run",
        ),
    ],
)
def test_what_can_not_begin_is_refused_by_key(runs: Runs, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(runs)


def test_a_run_alone_has_no_base() -> None:
    with pytest.raises(ConfigError, match=r"^train\.base_run: no run 'a' .* no other run"):
        load({"train": {"base_run": "a"}})
