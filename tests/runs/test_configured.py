"""What names a run folder: data and settings that decide weights, nothing else."""

import os
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import ConfigError
from spark_trainer.runs import configured


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"num_workers": 4}, True),
        ({"output_dir": "elsewhere"}, True),
        ({"learning_rate": 2e-3}, False),
        ({"split": {"validation": 0.25, "seed": 1}}, False),
    ],
    ids=str,
)
def test_the_id_follows_what_decides_the_weights(
    make: Any, settings: dict[str, Any], same: bool
) -> None:
    assert (make().run_id == make(**settings).run_id) is same


def test_the_id_follows_the_data_and_the_checkpoint(make: Any, manifest: Path) -> None:
    before = make().run_id
    manifest.write_text(manifest.read_text().replace("beagle", "lamp"))
    assert make().run_id != before


def test_a_missing_manifest_names_the_key(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"train\.manifest_path: no such file: nowhere\.jsonl"):
        make(manifest_path="nowhere.jsonl")


def test_the_id_follows_the_files_that_a_run_reads(make: Any, tmp_path: Path) -> None:
    """One that is changed after it was planned is told before anything is read."""
    file = tmp_path / "asked.json"
    text = {"questions": str(file), "each": "questions", "prompt": "{question}"}
    file.write_text("[1]")
    made = make(text=text)
    assert make(text=text).run_id == made.run_id
    configured.check_files(made)
    file.write_text("[2]")
    assert make(text=text).run_id != made.run_id
    with pytest.raises(ConfigError, match=r"run: a file that it reads has changed .*asked\.json"):
        configured.check_files(made)
    file.unlink()
    with pytest.raises(ConfigError, match=r"train\.text\.questions: .*asked\.json: No such file"):
        make(text=text)


def test_the_id_follows_who_draws_answers_and_not_where(make: Any) -> None:
    """Runs that draw their own keep the id that they had before a server could."""

    def served(**vllm: Any) -> Any:
        rft = {"reward_funcs": ["exact"], "vllm": vllm}
        return make(model_type="rft", global_batch_size=4, rft=rft)

    url = "http://one:8000/v1"
    own, one = served(), served(server_url=url)
    assert "vllm" not in own.settings.results()["rft"]
    assert served(importance_sampling_clip_max=2.0).run_id == own.run_id
    assert one.run_id != own.run_id
    assert served(server_url="http://two/v1", max_logp_difference=1.0).run_id == one.run_id
    assert served(server_url=url, importance_sampling_clip_max=2.0).run_id != one.run_id


def test_references_behind_a_link_count(make: Any, tmp_path: Path) -> None:
    for name in ("said", "elsewhere"):
        (tmp_path / name).mkdir()
    asr = {"references": str(tmp_path / "said")}
    (tmp_path / "elsewhere/talk.srt").write_text("one")
    before = make(model_type="asr", asr=asr).run_id
    (tmp_path / "said/day").symlink_to(tmp_path / "elsewhere")
    linked = make(model_type="asr", asr=asr).run_id
    (tmp_path / "elsewhere/talk.srt").write_text("two!")
    assert len({before, linked, make(model_type="asr", asr=asr).run_id}) == 3


def test_references_are_a_file_or_a_folder(make: Any, tmp_path: Path) -> None:
    """What never ends when it is read, such as a pipe, is refused before it is."""
    os.mkfifo(tmp_path / "said.csv")
    with pytest.raises(
        ConfigError, match=r"train\.asr\.references: no such file or folder: .*said"
    ):
        make(model_type="asr", asr={"references": str(tmp_path / "said.csv")})
