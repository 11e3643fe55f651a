"""Which caption goes to the manifest, and that the others stay."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
)

from spark_trainer.config import ConfigError
from spark_trainer.data import corrections, joining
from spark_trainer.data.files import write_json
from spark_trainer.data.layout import Layout
from spark_trainer.metrics.text import ClipScore, agreement
from spark_trainer.report import page as pages
from spark_trainer.steps import manifest
from tests.families import tokenizers
from tests.report.page.read import Page

Build = Callable[..., "Built"]  # noqa: F821  # tests/steps/conftest.py
SAID = {
    "imagenet-tags": "tags: Samoyed",
    "blip": "a white dog runs over the grass",
    "blip2": "a white dog runs on the green grass in the sun",
}


@pytest.fixture
def said(build: Build, videos: Path, clips: Path) -> Callable[..., dict[str, Any]]:
    """The selected record of a video about which three captioners wrote."""

    def run(
        captions: dict[str, str | None], by_hand: str | None = None, **select: Any
    ) -> dict[str, Any]:
        shutil.copy(clips / "dog.mp4", videos)
        section = {"captioner_backend": list(captions)}
        built = build("frames", caption=section)
        video = built.video("dog.mp4")
        for name, text in captions.items():
            facts = {"model": f"model of {name}", "revision": "r", "prompt": None}
            facts |= {"frames": ["frame_000001.jpg"], "caption": text, "why": "nothing said"}
            path = built.index.layout.record(video, f"caption/{name}")
            facts |= {"video": video.hash, "status": "ok" if text else "none"}
            write_json(path, facts)
        if by_hand:
            layout = built.index.layout
            folder = layout.root / "corrections"
            corrections.edit(folder, layout, video.hash, {"caption": by_hand}, "Ada")
        built = build("select", caption=section, select=select)
        return dict(built.record("dog.mp4", "select"))

    return run


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ({}, "imagenet-tags"),
        ({"by": "longest"}, "blip2"),
        ({"by": "agreement"}, "blip"),
        ({"captioners": ["blip2", "blip"]}, "blip2"),
    ],
)
def test_the_named_rule_decides(
    select: dict[str, Any], expected: str, said: Callable[..., dict[str, Any]]
) -> None:
    record = said(SAID, **select)
    assert (record["backend"], record["caption"]) == (expected, SAID[expected])
    assert record["model"] == f"model of {expected}"
    others = select.get("captioners", SAID)
    assert {n: c["caption"] for n, c in record["captions"].items()} == {n: SAID[n] for n in others}
    assert 0 < record["agreement"] < 1


def test_the_page_shows_what_each_caption_scored(
    said: Callable[..., dict[str, Any]], videos: Path
) -> None:
    """The record itself goes to the manifest, and the manifest to the page."""
    record = said(SAID, by="longest")
    output = next(videos.parent.glob("out*"))
    layout = Layout(output)
    (sources,), marker = output.glob(".spark/index/*.json"), output / "part.jsonl"
    (listed,) = output.glob(".spark/shards/*.json")
    manifest.part(layout, layout.read_shard(listed), ("frames", "select"), "0" * 16, marker)
    write_json(output / "parts.json", [[str(marker), str(listed)]])
    joining.join(output / "parts.json", sources, layout.manifest, layout.rejected)
    pages.write(layout.manifest, output / "page.html", [], 1)
    (shown,) = Page(output / "page.html").data("texts-0")
    assert {one["score"] for one in record["captions"].values()} == {2.0, 7.0, 11.0}
    assert {score for _, _, _, score, _ in shown["captions"]} == {2.0, 7.0, 11.0}


def test_a_captioner_that_says_nothing_is_never_selected(
    said: Callable[..., dict[str, Any]],
) -> None:
    record = said({"blip": None, "blip2": "a dog"})
    assert (record["backend"], record["caption"]) == ("blip2", "a dog")


def test_without_any_caption_the_reason_is_kept(said: Callable[..., dict[str, Any]]) -> None:
    nothing = said({"blip": None, "blip2": None})
    assert (nothing["status"], nothing["why"]) == ("none", "nothing said")


def test_what_a_person_wrote_is_taken_whatever_captioners_said(
    said: Callable[..., dict[str, Any]],
) -> None:
    """No model is loaded for it, and the captioners' words stay beside it."""
    record = said({"blip": "a dog", "blip2": None}, "a hound", by="score", model_name="not/there")
    assert (record["caption"], record["backend"], record["by"]) == ("a hound", "hand", "hand")
    assert record["author"] == "Ada"
    assert record["captions"]["blip"]["caption"] == "a dog"
    assert record["captions"]["blip2"] is None


def test_what_a_person_wrote_needs_no_captioner(said: Callable[..., dict[str, Any]]) -> None:
    record = said({"blip": None}, "a hound")
    assert (record["status"], record["caption"]) == ("ok", "a hound")
    assert "captions" not in record


def test_a_single_caption_has_nothing_beside_it(said: Callable[..., dict[str, Any]]) -> None:
    record = said({"blip": "a dog"})
    assert record["caption"] == "a dog"
    assert not {"captions", "agreement"} & set(record)


def test_agreement_is_the_mean_overlap_with_the_others() -> None:
    one, two, three = agreement(["a dog runs", "A dog runs.", "blue sky"])
    assert (one, two, three) == (0.5, 0.5, 0.0)
    assert agreement(["alone"]) == [0.0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights."""
    folder = tmp_path_factory.mktemp("clip")
    words = tokenizers.clip()
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 4, "projection_dim": 16, "initializer_range": 1.0}
    text = tower | {"vocab_size": len(words), "max_position_embeddings": 77}
    text |= {"eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id}
    config = CLIPConfig(
        text_config=text,
        vision_config=tower | {"image_size": 28, "patch_size": 14},
        projection_dim=16,
    )
    torch.manual_seed(3)
    CLIPModel(config).save_pretrained(folder)
    square = {"height": 28, "width": 28}
    pictures = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=square)
    CLIPProcessor(pictures, words).save_pretrained(folder)
    return folder


def test_the_score_is_the_papers(clip: Path, build: Build, videos: Path, clips: Path) -> None:
    from PIL import Image

    shutil.copy(clips / "dog.mp4", videos)
    frames = build("frames").frames("dog.mp4")
    score = ClipScore(str(clip), "main", "cpu", 1)
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    expected = []
    for text in SAID.values():
        images = [Image.open(frame) for frame in frames]
        inputs = processor(text=[text], images=images, return_tensors="pt", truncation=True)
        with torch.no_grad():
            made = model(**inputs)
        cosines = torch.cosine_similarity(made.image_embeds, made.text_embeds)
        expected.append(2.5 * max(0.0, float(cosines.clamp(min=0).mean())))
        assert score(frames, text) == pytest.approx(expected[-1], abs=1e-5)
    assert len({round(one, 4) for one in expected}) > 1


def test_the_best_score_is_selected(said: Callable[..., dict[str, Any]], clip: Path) -> None:
    record = said(SAID, by="score", model_name=str(clip), device="cpu")
    scores = {name: one["score"] for name, one in record["captions"].items()}
    assert len(set(scores.values())) > 1, scores
    assert scores[record["backend"]] == max(scores.values())
    assert record["backend"] != "imagenet-tags"  # as `first` would have it


def test_another_checkpoint_than_clip_is_refused(said: Callable[..., dict[str, Any]]) -> None:
    folder = Path(__file__).parents[2] / "config/demo/blip-small"
    with pytest.raises(ConfigError, match=r"select\.model_name: .* lacks model\.safetensors"):
        said(SAID, by="score", model_name=str(folder), device="cpu")
