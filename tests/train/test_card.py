"""The card says what the model is made of, and under which licence its base is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import ModelCard

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data import licences
from spark_trainer.families.kinds.export import Loading
from spark_trainer.metrics.objective import HELD_OUT_LOSS
from spark_trainer.runs.summary import Summary
from spark_trainer.train import card

VIDEOS = {"aa": {"license": "CC | BY"}, "bb": {"license": "CC | BY"}, "cc": {}}
LINEAGE = {
    "run": "mine",
    "seal": "1a2b3c4d",
    "manifest_sha256": "ab" * 32,
    "spark_trainer": "0.1",
    "code": "c0de",
    "videos": VIDEOS,
}
# What the scores of `SUMMARY` are to hubs.
RESULTS = {
    "metrics": ["bleu"],
    "model-index": [
        {
            "name": "mine",
            "results": [
                {
                    "task": {"type": "video-text-to-text"},
                    "dataset": {"type": "videos", "name": "held-out videos"},
                    "metrics": [{"type": "bleu", "value": 12.345}],
                }
            ],
        }
    ],
}
SUMMARY = Summary(
    steps=30,
    device="cpu",
    objective=HELD_OUT_LOSS,
    first=3.0,
    last=1.25,
    best=1.0,
    best_step=20,
    scores={"bleu": 12.345},
    training_videos=9,
    validation_videos=2,
)


LOADING = Loading("transformers", "video-text-to-text", "import this_and_that")


def written(folder: Path, run: Run, loading: Loading = LOADING) -> tuple[dict[str, Any], str]:
    """The header as the hub's reader takes it, and the text."""
    card.write(folder, run, LINEAGE, SUMMARY, loading)
    read = ModelCard.load(folder / "README.md")
    return read.data.to_dict(), read.text


def test_weights_of_a_wheel_have_the_hubs_name_and_their_own_licence(tmp_path: Path) -> None:
    run = Run(model_name="offline-tiny.en", model_type="asr")
    head, _ = written(tmp_path, run, families.find(run.model_name).loading(tmp_path, run))
    assert (head["base_model"], head["license"]) == ("openai/whisper-tiny.en", "mit")


@pytest.mark.parametrize(
    ("front", "terms"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\nlicense: 'a | <b>'\n1: 2\nself: 3\n---\n", "a \\| &lt;b>"),
        ("---\nlicense: [mit\n---\n", "not known"),
        ("---\nlicense: !!python/object/apply:os.system [exit]\n---\n", "not known"),
        ("---\nlicense: {a: b}\n---\n", "not known"),
        (None, "not known"),
    ],
    ids=str,
)
def test_names_base_licence_data_and_scores(tmp_path: Path, front: str | None, terms: str) -> None:
    base = tmp_path / "base"
    base.mkdir()
    if front:
        (base / "README.md").write_text(front + "# base\n")
    settings = {"finetune": "lora", "final": "best", "ema_decay": 0.9, "max_eval_samples": 1}
    run = Run(model_name=str(base), **settings)
    head, text = written(tmp_path, run)
    assert head["metrics"] == ["bleu"]
    assert licences.shown(head.get("license")) == terms.replace("\\", "").replace("&lt;", "<")
    assert "base_model" not in head
    assert str(tmp_path) not in text
    rows = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines() if " | " in line)
    assert rows["base"] == "a local model, `base`"
    assert rows["licence of the base"] == terms
    assert rows["data (SHA-256 of manifest.jsonl)"] == "ab" * 32
    assert rows["held-out bleu"] == "12.35"
    assert rows["licences of the videos"] == "CC \\| BY: 2, not known: 1"
    [result] = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert (result.metric_type, result.metric_value) == ("bleu", 12.345)
    assert (result.task_type, result.dataset_name) == ("video-text-to-text", "held-out videos")
    assert "`spark-trainer lineage mine-1a2b3c4d`" in text
    assert rows["videos held out"] == "2"
    assert rows["held-out samples measured, at most"] == "1"
    assert rows["least held-out loss"] == "1.0000 at update 20"
    assert rows["weights"] == "the best, averaged"
    assert rows["learnt"] == "LoRA"
    assert "```python\nimport this_and_that\n```" in text


@pytest.mark.parametrize(
    ("settings", "library", "more"),
    [
        ({}, "transformers", {"base_model_relation": "finetune"}),
        ({"finetune": "lora"}, "transformers", {"base_model_relation": "finetune"}),
        (
            {"finetune": "qlora", "save": "adapter"},
            "peft",
            {"base_model_relation": "adapter", "tags": ["spark-trainer", "lora"]},
        ),
    ],
    ids=str,
)
def test_a_base_of_the_hub_is_named_with_what_became_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    library: str,
    more: dict[str, Any],
) -> None:
    """The hub's answer is made up: Qwen2.5-VL-3B's card, whose licence is a file beside it."""
    theirs = tmp_path / "theirs.md"
    terms = "license: other\nlicense_name: qwen-research\nlicense_link: LICENSE\n"
    theirs.write_text(f"---\n{terms}---\n# it\n")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: str(theirs))
    monkeypatch.chdir(tmp_path)
    run = Run(model_name="Qwen/Qwen2.5-VL-3B-Instruct", **settings)
    head, text = written(tmp_path, run, replace(LOADING, library=library))
    assert head == {"tags": ["spark-trainer"]} | RESULTS | more | {
        "library_name": library,
        "pipeline_tag": "video-text-to-text",
        "base_model": "Qwen/Qwen2.5-VL-3B-Instruct",
        "license": "other",
        "license_name": "qwen-research",
        "license_link": "https://huggingface.co/Qwen/Qwen2.5-VL-3B-Instruct/blob/main/LICENSE",
    }
    assert "| base | Qwen/Qwen2.5-VL-3B-Instruct |" in text


def test_scores_stand_beside_those_before_training(tmp_path: Path) -> None:
    scores = {"wer": 16.91, "substitutions": 30.0, "wer_de": 12.5}
    summary = replace(SUMMARY, scores=scores, first_scores={"wer": 48.0, "substitutions": 91.0})
    card.write(tmp_path, Run(from_scratch=True), LINEAGE, summary, LOADING)
    text = (tmp_path / "README.md").read_text()
    assert "| held-out wer | 48 before, 16.91 after |" in text
    assert "| held-out substitutions | 91 before, 30 after |" in text
    assert "| held-out wer_de | 12.5 |" in text


def test_a_model_that_was_given_its_own_transcripts(tmp_path: Path) -> None:
    videos = {"aa": {"transcriber_model": "tiny.en"}, "bb": {"transcriber_model": "large"}}
    lineage = LINEAGE | {"videos": videos | {"cc": {"captioner": "blip"}}}
    said = "| transcripts | of 1 of 3 videos by the base itself, which learns its own mistakes |"
    speech: dict[str, Any] = {"model_type": "asr", "model_name": "openai/whisper-tiny.en"}
    for more, warned in [({}, True), ({"asr": {"references": "said.csv"}}, False)]:
        run = Run(**speech, **more, from_scratch=True)
        card.write(tmp_path, run, lineage, SUMMARY, LOADING)
        assert (said in (tmp_path / "README.md").read_text()) == warned


def test_a_base_is_called_as_people_call_it(tmp_path: Path) -> None:
    """Of a run's weights that is the run; no name of a folder breaks the page."""
    for base, shown, more in [
        ("slow-1a2b3c4d/final", "the run `slow-1a2b3c4d`", {"base_run": "slow"}),
        ("a`|\n---\nb", "a local model, `a'\\|\\n---\\nb`", {}),
    ]:
        (tmp_path / base).mkdir(parents=True)
        run = Run(model_name=str(tmp_path / base), **more)
        _, text = written(tmp_path, run)
        assert f"| base | {shown} |" in text
        assert shown.rpartition("model, ")[2].removeprefix("the run ") in text.split("|\n\n")[1]


def test_random_weights_have_no_base(tmp_path: Path) -> None:
    head, text = written(tmp_path, Run(from_scratch=True))
    told = {"library_name": "transformers", "pipeline_tag": "video-text-to-text"}
    assert head == told | {"tags": ["spark-trainer"]} | RESULTS
    assert "| base | random weights |" in text
