"""Error rates against jiwer, Whisper's own normalisers and counts by hand."""

from itertools import pairwise

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whisper.normalizers import BasicTextNormalizer

from spark_trainer.config.transcript import WHISPER_LANGUAGES
from spark_trainer.metrics.speech import BY_CHARACTERS, Edits, Pair, edits, normalised, scores

WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta"]), min_size=1, max_size=9)
TEXTS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5)


@given(TEXTS)
def test_the_edits_are_jiwers(texts: list[tuple[list[str], list[str]]]) -> None:
    """Over the corpus, words and characters; these words are what they are when normalised."""
    said, wanted = ([" ".join(text) for text in side] for side in zip(*texts, strict=True))
    got = scores(said, wanted, ["en"] * len(said))
    words, characters = jiwer.process_words(wanted, said), jiwer.process_characters(wanted, said)
    assert got["wer"] == pytest.approx(100 * words.wer)
    assert got["wer_raw"] == pytest.approx(100 * words.wer)
    assert got["cer"] == pytest.approx(100 * characters.cer)
    counted = [got[name] for name in ("substitutions", "deletions", "insertions")]
    assert counted == [words.substitutions, words.deletions, words.insertions]


def test_a_rate_is_over_the_corpus_not_a_mean() -> None:
    """One of one word, and one of nine: 2 edits in 10 words."""
    got = scores(["no", "a b c d e f g h x"], ["yes", "a b c d e f g h i"], ["de", "de"])
    assert got["wer"] == pytest.approx(20)
    assert got["substitutions"] == 2


def test_english_is_normalised_as_whisper_does_and_raw_is_not() -> None:
    got = scores(["I will pay twenty dollars"], ["I'll pay $20."], ["en"])
    assert got["wer"] == got["cer"] == 0
    assert got["wer_raw"] > 0


def test_other_languages_keep_what_is_english_only() -> None:
    assert normalised("Dr. Müller, won't!", "de") == "dr müller won t"
    assert normalised("Dr. Müller, won't!", "en") == "doctor muller will not"


def test_spelling_that_whisper_takes_apart() -> None:
    """The pitfalls that docs/speech.md names."""
    assert normalised("five five", "en") == "55"
    assert normalised("5 5", "en") == "5 5"
    assert normalised("O'Neill's", "en") == "0 neill is"
    assert normalised("uh", "en") == ""


def test_an_empty_reference_is_in_no_rate_and_its_words_are_insertions() -> None:
    got = scores(["uh yes well", "one"], ["uh", "one"], ["en", "en"])
    assert got["wer"] == 0
    assert got["insertions"] == 2
    assert "text_on_silence" not in got


def test_text_on_silence() -> None:
    """A remark in brackets is no text; with nothing said anywhere there is no rate."""
    got = scores(["Thank you.", "", "[Music]"], ["", "", " "], ["en"] * 3)
    assert got["text_on_silence"] == pytest.approx(100 / 3)
    assert got["insertions"] == 2
    assert not {"wer", "cer", "wer_raw"} & got.keys()


def test_languages_without_spaces_have_characters_alone() -> None:
    got = scores(["今日は 晴れ"], ["今日は雨、です。"], ["ja"])
    assert "wer" not in got
    assert "wer_raw" not in got
    assert got["cer"] == 50
    assert got["substitutions"] + got["deletions"] == 3


def test_vowel_signs_count() -> None:
    """Whisper's normaliser takes these two words for the same."""
    basic = BasicTextNormalizer()
    assert basic("हिन्दी").split() == basic("हिन्दु").split()
    got = scores(["हिन्दु"], ["हिन्दी"], ["hi"])
    assert got["cer"] == pytest.approx(100 / 6)
    assert got["wer_raw"] == 100
    assert "wer" not in got


# A sentence in each script; in the first ones vowels are signs of their own.
BROKEN = {
    "hi": "हम आज हिन्दी बोलते हैं",
    "bn": "আমরা আজ এখানে এসেছি",
    "ta": "நாங்கள் இன்று இங்கு வந்தோம்",
    "te": "మేము ఈరోజు ఇక్కడికి వచ్చాము",
    "th": "วันนี้เรามาที่นี่",
    "yi": "מיר זײַנען הײַנט געקומען אַהער",
}
WHOLE = {
    "de": "Wir sind heute hierher gekommen",
    "vi": "Hôm nay chúng tôi đến đây",
    "ko": "우리는 오늘 여기에 왔습니다",
    "ru": "Мы сегодня пришли сюда",
    "ar": "لقد جئنا إلى هنا اليوم",
    "he": "הגענו לכאן היום",
}


@pytest.mark.parametrize("language", [*BROKEN, *WHOLE])
def test_words_are_counted_where_whispers_normaliser_keeps_them(language: str) -> None:
    text = (BROKEN | WHOLE)[language]
    kept = len(BasicTextNormalizer()(text).split()) == len(text.split())
    assert kept == (language not in BY_CHARACTERS) == (language in WHOLE)


def test_every_language_is_one_of_whispers() -> None:
    assert BY_CHARACTERS < WHISPER_LANGUAGES


def test_rates_of_each_language_where_there_are_several() -> None:
    said, wanted = ["a b", "ein zwei", "你好"], ["a c", "ein zwei", "你们"]
    got = scores(said, wanted, ["en", "de", "zh"])
    assert (got["wer_en"], got["wer_de"], got["cer_zh"]) == (50, 0, 50)
    assert got["wer"] == 25  # without Chinese
    assert not [name for name in scores(said[:1], wanted[:1], ["en"]) if name.endswith("_en")]


def test_recall_of_a_list() -> None:
    """Two of three: `Zorvex` is said once more than it should be, which earns nothing."""
    said = ["Zorvex and zorvex pro, Zorvex", "the sore vex"]
    wanted = ["zorvex and Zorvex Pro", "the Zorvex"]
    got = scores(said, wanted, ["en", "en"], words=["Zorvex", "absent", "…"])
    assert got["words_recall"] == pytest.approx(200 / 3)
    phrase = scores(said, wanted, ["en", "en"], words=["Zorvex Pro"])
    assert phrase["words_recall"] == 100
    assert "words_recall" not in scores(said, wanted, ["en", "en"], words=["absent"])


def test_edits_are_marked_where_they_are_counted() -> None:
    pair = Pair.of("The sore vex is so down", "The Zorvex is down today.", "en")
    assert pair.marked() == "the {+sore+} [-zorvex-]{+vex+} is {+so+} down [-today-]"
    assert Pair.of("你好", "你们好", "zh").marked() == "你[-们-]好"
    assert Pair.of("hm [noise] 3", "", "de").marked() == "{+hm 3+}"


@given(WORDS, WORDS)
def test_marks_hold_both_texts(said: list[str], wanted: list[str]) -> None:
    marked = Pair.of(" ".join(said), " ".join(wanted), "de").marked()
    old = marked.replace("[-", "").replace("-]", " ")
    new = marked.replace("{+", "").replace("+}", " ")
    for text, other, (left, right) in ((old, wanted, ("{+", "+}")), (new, said, ("[-", "-]"))):
        while left in text:
            start, end = text.index(left), text.index(right) + 2
            text = f"{text[:start]} {text[end:]}"
        assert text.split() == other


@given(st.lists(WORDS, min_size=3, max_size=3))
def test_edits_add_up(texts: list[list[str]]) -> None:
    counted = [edits(said, wanted) for said, wanted in pairwise(texts)]
    assert sum(counted, Edits()).length == sum(map(len, texts[1:]))


def test_as_many_references_as_texts() -> None:
    with pytest.raises(ValueError, match="2 texts, 1 references, 1 languages"):
        scores(["a", "b"], ["a"], ["en"])
