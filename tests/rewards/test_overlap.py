"""BLEU, ROUGE-L and CIDEr as rewards are those of the metrics."""

import pytest

from spark_trainer.data.sample import Unusable
from spark_trainer.errors import UserError
from spark_trainer.metrics.text import scores

from .asked import asked, group, scored

REFERENCES = [
    "A brown dog runs through the deep snow.",
    "Two people are playing chess in a park.",
    "A woman in a red coat feeds the birds in the park.",
]
SAID = ["a dog runs through snow", "two people in a park, in a park", "A woman feeds the birds."]


@pytest.mark.parametrize(("name", "most"), [("bleu", 100), ("rouge_l", 1), ("cider", 10)])
def test_the_mean_over_a_corpus_is_the_metric(name: str, most: float) -> None:
    """BLEU, which is taken over a whole corpus, of single texts."""
    reward = asked(name, references=REFERENCES)
    rewards = [
        reward.scored(group(reference, said)).rewards[0]
        for reference, said in zip(REFERENCES, SAID, strict=True)
    ]
    if name == "bleu":
        pairs = zip(SAID, REFERENCES, strict=True)
        expected = [scores([said], [reference])["bleu"] / most for said, reference in pairs]
        assert rewards == pytest.approx(expected)
    else:
        metric = scores(SAID, REFERENCES)[name] / most
        assert sum(filter(None, rewards)) / len(SAID) == pytest.approx(metric)


def test_the_best_answer_gets_one() -> None:
    for name in ("bleu", "rouge_l", "cider"):
        found = scored(name, group(REFERENCES[0], REFERENCES[0], ""), references=REFERENCES)
        assert found == pytest.approx([1, 0])


def test_cider_takes_how_rare_words_are_from_training_not_from_the_group() -> None:
    reward = asked("cider", references=REFERENCES)
    alone = reward.scored(group(REFERENCES[0], SAID[0])).rewards
    among = reward.scored(group(REFERENCES[0], SAID[0], *SAID[1:])).rewards
    assert alone[0] == among[0] != 0


def test_cider_over_one_reference_is_refused() -> None:
    with pytest.raises(UserError, match=r"rft\.reward_funcs: cider .* \(got 1\)"):
        asked("cider", references=["a dog", "a dog"])


def test_a_reference_without_words_is_told() -> None:
    with pytest.raises(Unusable, match="'…' has no word"):
        asked("rouge_l").check("…", {})
