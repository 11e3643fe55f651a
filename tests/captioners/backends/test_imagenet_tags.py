"""The offline tagger with its real weights."""

from pathlib import Path

import pytest

from spark_trainer import captioners
from spark_trainer.captioners import Captioner
from spark_trainer.config import Captioning

TAGS = Captioning(captioner_backend="imagenet-tags", device="cpu")


@pytest.fixture(scope="module")
def tagger() -> Captioner:
    """Both networks, loaded once."""
    return captioners.load(TAGS, threads=2)


@pytest.mark.parametrize(("clip", "tags"), [("dog", "tags: Samoyed"), ("title", "no tag")])
def test_only_what_is_seen_is_named(
    clip: str, tags: str, tagger: Captioner, pictures: dict[str, Path]
) -> None:
    assert tagger.predict(pictures[clip]) == tags


def test_a_batch_is_as_many_single_ones(tagger: Captioner, pictures: dict[str, Path]) -> None:
    p = pictures
    videos = [[p["dog"], p["title"]], [p["title"]], [p["dog"]], [p["cup"], p["bunny"], p["dog"]]]
    batch = tagger.predict_batch(videos)
    assert batch == [tagger.predict_batch([video])[0] for video in videos]
    assert len(set(batch)) > 1


def test_the_threshold_decides(pictures: dict[str, Path]) -> None:
    strict = captioners.load(TAGS.model_copy(update={"threshold": 1.0}), threads=2)
    assert strict.predict(pictures["dog"]) == "no tag"
