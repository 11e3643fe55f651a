"""What a run waits for, and which run an encoding serves."""

from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import ConfigError
from spark_trainer.data.files import read_json
from spark_trainer.errors import UserError
from spark_trainer.graph.runs import RunGraph
from tests.families import tiny_pipelines

from .conftest import Ask


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline with random weights."""
    return tiny_pipelines.animatediff(tmp_path_factory.mktemp("model"))


@pytest.fixture
def runs(ask: Ask, model: Path, tmp_path: Path) -> RunGraph:
    """A run on the manifest built here, one on a given manifest, and two that make videos."""
    given = tmp_path / "given.jsonl"
    given.write_text("")
    films: dict[str, Any] = {
        "model_type": "diffusion",
        "model_name": str(model),
        "clip": {"sizes": [[64, 64]], "num_frames": 4, "fps": 4},
    }
    named = {
        "captions": {},
        "given": {"manifest_path": str(given)},
        "film": films,
        "film_given": films | {"manifest_path": str(given)},
        "each_step": films | {"encode": "each_step"},
        "kept": {"encode_vision": True},
    }
    return RunGraph(ask(train={"runs": named}))


def test_a_run_waits_for_its_own_manifest_or_for_the_parts(runs: RunGraph, tmp_path: Path) -> None:
    assert runs.data("captions") == runs.videos.markers("manifest")
    assert runs.data_file("captions") == runs.videos.part_list()
    assert runs.data("given") == [tmp_path / "given.jsonl"] == [runs.data_file("given")]


def test_a_run_is_found_where_its_settings_and_data_say(runs: RunGraph) -> None:
    names = {"captions", "given", "film", "film_given", "each_step", "kept"}
    assert runs.summaries.keys() == names
    assert runs.summaries["captions"].name == "trained.json"
    assert len(set(runs.summaries.values())) == 6
    assert read_json(runs.spec_file("given"))["name"] == "given"


def test_a_video_that_is_moved_to_the_held_out_ones_makes_a_run_another(
    ask: Ask, two_clips: dict[str, str]
) -> None:
    split = {"validation": 0, "validation_paths": ["held-out*"]}
    settings = {"runs": {"by_path": {"split": split}, "by_share": {}}}

    def found() -> dict[str, Path]:
        return RunGraph(ask(train=settings)).summaries

    before = found()
    first = min(path for path in Path(two_clips["video_dir"]).iterdir() if path.is_file())
    first.rename(first.with_name(f"held-out {first.name}"))
    assert found()["by_share"] == before["by_share"]
    assert found()["by_path"] != before["by_path"]


def test_what_is_encoded_ahead_is_waited_for(runs: RunGraph) -> None:
    (shard,) = runs.videos.index.shards
    assert runs.encoded("captions") == runs.encoded("each_step") == []
    (marker,) = runs.encoded("film")
    encoders, (name, fingerprint) = marker.parents[1].name, marker.stem.rsplit(".", 1)
    assert name == shard.name
    assert runs.reader(encoders, name, fingerprint) == "film"
    assert runs.to_encode("film", name) == runs.videos.markers("manifest")[0]
    (of_tower,) = runs.encoded("kept")
    assert of_tower.parents[1] != marker.parents[1]
    (of_given,) = runs.encoded("film_given")
    assert of_given.parents[1] == marker.parents[1]  # the same encoders, other data
    assert runs.to_encode("film_given", "any").name == "given.jsonl"


def test_an_encoding_that_no_run_takes_is_named(runs: RunGraph) -> None:
    (shard,) = runs.videos.index.shards
    with pytest.raises(UserError, match=r"no run has the encoders and the settings of .*/sealed/"):
        runs.reader("0" * 16, shard.name, "0" * 16)


def test_a_run_waits_for_the_run_whose_weights_it_begins_with(ask: Ask, tmp_path: Path) -> None:
    """No weights are there as it is planned; its id follows from the other's, and from its own."""
    reward = tmp_path / "mine.py"

    def planned(rule: str, **first: Any) -> RunGraph:
        reward.write_text(rule)
        own = {"reward_funcs": [f"{reward}:score"]}
        after = {"base_run": "sft", "model_type": "rft", "global_batch_size": 8, "rft": own}
        graph = RunGraph(ask(train={"runs": {"rft": after, "sft": first}}))
        assert [*graph.specs] == ["rft", "sft"]
        return graph

    runs = planned("one")
    sft, rft = runs.specs["sft"], runs.specs["rft"]
    assert runs.base("sft") == []
    assert runs.base("rft") == [sft.folder.summary]
    assert rft.settings.model_name == str(sft.folder.final)
    assert rft.base_run == sft.folder.name
    assert read_json(runs.spec_file("rft"))["settings"]["model_name"] == str(sft.folder.final)
    assert not sft.folder.path.exists()
    other_rule, other_base = planned("two"), planned("one", seed=1)
    assert other_rule.specs["sft"].run_id == sft.run_id
    assert other_base.specs["sft"].run_id != sft.run_id
    ids = {rft.run_id, *(other.specs["rft"].run_id for other in (other_rule, other_base))}
    assert len(ids) == 3
    assert planned("one").specs["rft"].run_id == rft.run_id
    reward.unlink()
    with pytest.raises(ConfigError, match=r"runs\.rft\.rft\.reward_funcs: .*mine\.py: No such"):
        _ = RunGraph(runs.videos).specs
