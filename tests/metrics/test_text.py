"""The scores against worked examples and against their papers' formulas."""

import math
from collections import Counter

import numpy as np
import pytest

from spark_trainer.metrics.text import scores

REFERENCES = [
    "A brown dog runs through the deep snow.",
    "Two people are playing chess in a park.",
    "A woman in a red coat feeds the birds in the park.",
    "The dog sleeps.",
]
GENERATED = [
    "a dog runs through snow",
    "two people in a park, in a park, in a park",
    "",
    "the dog sleeps on the sofa",
]
# `Cider().compute_score` of pycocoevalcap 1.2 for these texts in lower case, without punctuation.
COCO_CIDER = 2.13360774250246


def test_equal_texts_get_the_most() -> None:
    long = REFERENCES[:3]
    assert scores(long, long) == pytest.approx({"bleu": 100, "rouge_l": 1, "cider": 10})


def test_case_and_punctuation_count_for_nothing_in_rouge_and_cider() -> None:
    plain = ["a brown dog runs", "two people are playing"]
    marked = ["A brown dog runs!", "Two people: are playing."]
    got = scores(plain, marked)
    assert got["rouge_l"] == 1
    assert got["cider"] == pytest.approx(10)


def test_bleu_by_hand() -> None:
    """Matches of 1 to 4 tokens: 5/5, 3/4, 2/3, 1/2 in the first, 3/3, 2/2, 1/1 in the second."""
    got = scores(["the cat sat on mat", "a dog runs"], ["the cat sat on the mat", "a dog runs"])
    precisions = [8 / 8, 5 / 6, 3 / 4, 1 / 2]
    brevity = math.exp(1 - 9 / 8)
    assert got["bleu"] == pytest.approx(100 * brevity * math.prod(precisions) ** (1 / 4))


def test_bleu_of_short_equal_texts_is_not_zero() -> None:
    assert scores(["tags: beagle"], ["tags: beagle"])["bleu"] == pytest.approx(100)


def test_rouge_l_by_hand() -> None:
    """The longest common subsequences: `dog in snow` of 5 and 6 words, and none."""
    got = scores(
        ["the dog runs in snow", "a cat"], ["a dog plays in the snow", "two people play chess"]
    )
    assert got["rouge_l"] == pytest.approx((2 * 3 / (5 + 6) + 0) / 2)


def cider_d(said: list[list[str]], wanted: list[list[str]]) -> float:
    """Section 4 of arXiv:1411.5726 with vectors over all n-grams, one reference for each text."""
    values = []
    for n in (1, 2, 3, 4):
        counts = [
            [Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in texts]
            for texts in (said, wanted)
        ]
        axes = sorted({ngram for texts in counts for text in texts for ngram in text})
        h, s = (np.array([[text[a] for a in axes] for text in texts]) for texts in counts)
        idf = np.log(len(wanted)) - np.log(np.maximum(1, (s > 0).sum(axis=0)))
        g_c, g_s = h * idf, s * idf
        norms = np.linalg.norm(g_c, axis=1) * np.linalg.norm(g_s, axis=1)
        cosine = (np.minimum(g_c, g_s) * g_s).sum(axis=1) / np.maximum(norms, 1e-300)
        off = np.array([len(a) - len(b) for a, b in zip(said, wanted, strict=True)])
        values.append(10 * np.exp(-(off**2) / (2 * 6.0**2)) * cosine)
    return float(np.mean(values))


def test_cider_is_the_papers_formula_and_cocos_figure() -> None:
    said, wanted = (
        [text.lower().replace(".", "").replace(",", "").split() for text in texts]
        for texts in (GENERATED, REFERENCES)
    )
    got = scores(GENERATED, REFERENCES)["cider"]
    assert got == pytest.approx(cider_d(said, wanted))
    assert got == pytest.approx(COCO_CIDER)


def test_a_single_clip_has_no_cider() -> None:
    assert scores(["a dog runs in the snow"], ["a dog runs in the snow"])["cider"] == 0


@pytest.mark.parametrize("said", ["", "   ", "!?", "\n"])
def test_a_text_without_words_is_worth_nothing(said: str) -> None:
    assert scores([said, said], ["a dog", "two people"]) == {"bleu": 0, "rouge_l": 0, "cider": 0}
    assert scores([said], [""]) == {"bleu": 0, "rouge_l": 0, "cider": 0}


def test_words_of_other_scripts_are_words() -> None:
    got = scores(
        ["ein großer Hund läuft", "собака бежит"], ["Ein großer Hund schläft", "Собака бежит"]
    )
    assert got["rouge_l"] == pytest.approx((3 / 4 + 1) / 2)


@pytest.mark.parametrize(("said", "wanted"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_texts_and_references_must_pair(said: list[str], wanted: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{len(said)} generated texts for {len(wanted)} ref"):
        scores(said, wanted)
