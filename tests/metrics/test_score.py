"""Which metrics are scores, and how the summary, the card and the tables tell them apart."""

import pytest

from spark_trainer.metrics import score, speech, text


def test_all_that_is_computed_is_known() -> None:
    computed = text.scores(["a b"], ["a b"])
    computed |= speech.scores(["a", "b", "x", "了"], ["a", "c", "", "了"], [*"ddd", "zh"], ["a"])
    assert {"wer", "wer_d", "cer_zh", "words_recall", "text_on_silence"} < computed.keys()
    assert score.known(computed) == computed
    assert {name.removesuffix(score.LONG) for name in score.SCORES} <= computed.keys()


@pytest.mark.parametrize("name", ["step", "loss", "held_out_loss", "worse", "cerebral", "wider"])
def test_other_metrics_are_none(name: str) -> None:
    assert score.known({name: 1.0, "wer": None}) == {}


def test_a_second_manifest_has_scores_too() -> None:
    assert score.known({"forgetting_wer": 4.2}) == {"forgetting_wer": 4.2}


def test_error_rates_are_followed() -> None:
    assert score.followed({"wer": 48.0, "bleu": 3.0, "insertions": 2.0}) == {"wer": 48.0}
    assert score.first_key("wer") == "first_wer"


def test_scores_come_in_one_order() -> None:
    """A checkpoint holds metrics sorted by name, so the card of a run that went on had others."""
    ordered = ["wer", "wer_de", "cer", "wer_raw", "deletions", "forgetting_wer"]
    assert list(score.known(dict.fromkeys(sorted(ordered), 1.0))) == ordered
