"""The row of a window, token by token, against openai-whisper's own tokenizer."""

import pytest
from whisper.tokenizer import get_tokenizer

from spark_trainer.data.sample import Unusable
from spark_trainer.speech.heard import Said
from spark_trainer.speech.segments import Segment
from spark_trainer.speech.tokens import LONGEST_PREVIOUS, Vocabulary

ENGLISH, MULTILINGUAL, LARGE_V3 = Vocabulary(51864), Vocabulary(51865), Vocabulary(51866)
SAID = (Segment(0.0, 2.5, "Is anybody there?"), Segment(3.011, 5.0, "No."))
BEFORE = (Segment(1.0, 2.0, "Hello."),)
LONGEST = 448


def spelled(vocabulary: Vocabulary, said: Said, learns: bool = False) -> tuple[str, str]:
    """The row as text with control tokens, and of it what is learnt."""
    ids, learnt = vocabulary.row(said, "transcribe", learns, LONGEST)
    decode = vocabulary.tokenizer.decode_with_timestamps
    return decode(ids), decode([one for one, told in zip(ids, learnt, strict=True) if told])


@pytest.mark.parametrize(
    ("said", "row", "learnt"),
    [
        (
            Said(SAID, language="en"),
            "<|startoftranscript|>{}<|notimestamps|> Is anybody there? No.<|endoftext|>",
            "<|notimestamps|> Is anybody there? No.<|endoftext|>",
        ),
        (
            Said(SAID, language="en", with_times=True),
            "<|startoftranscript|>{}<|0.00|> Is anybody there?<|2.50|><|3.02|> No.<|5.00|>"
            "<|endoftext|>",
            "<|0.00|> Is anybody there?<|2.50|><|3.02|> No.<|5.00|><|endoftext|>",
        ),
        (
            Said(SAID[:1], 3.0, language="en", with_times=True),
            "<|startoftranscript|>{}<|0.00|> Is anybody there?<|2.50|><|3.00|><|endoftext|>",
            "<|0.00|> Is anybody there?<|2.50|><|3.00|><|endoftext|>",
        ),
        (
            Said(SAID[1:], previous=BEFORE, language="en"),
            "<|startofprev|> Hello.<|startoftranscript|>{}<|notimestamps|> No.<|endoftext|>",
            "<|notimestamps|> No.<|endoftext|>",
        ),
        (
            Said(SAID[1:], previous=BEFORE, language="en", with_times=True),
            "<|startofprev|><|1.00|> Hello.<|2.00|><|startoftranscript|>{}<|3.02|> No.<|5.00|>"
            "<|endoftext|>",
            "<|3.02|> No.<|5.00|><|endoftext|>",
        ),
        (
            Said((), previous=BEFORE),
            "<|startofprev|> Hello.<|startoftranscript|><|nospeech|><|endoftext|>",
            "<|nospeech|><|endoftext|>",
        ),
    ],
    ids=["plain", "times", "cut", "previous", "previous times", "no speech"],
)
@pytest.mark.parametrize("vocabulary", [ENGLISH, MULTILINGUAL, LARGE_V3], ids=["en", "99", "100"])
def test_a_row_is_spelt_as_whisper_spells_it(
    vocabulary: Vocabulary, said: Said, row: str, learnt: str
) -> None:
    told = "<|en|><|transcribe|>" if vocabulary.multilingual else ""
    assert spelled(vocabulary, said) == (row.format(told), learnt)
    if said.segments:
        assert spelled(vocabulary, said, learns=True)[1] == told + learnt


def test_the_ids_are_those_of_openais_tokenizer() -> None:
    """` there` is one token, which it isn't with the merges that come with some weights."""
    theirs = get_tokenizer(True, num_languages=99, language="de", task="translate")
    ids, _ = MULTILINGUAL.row(Said(SAID, language="de"), "translate", False, LONGEST)
    text = theirs.encode(" Is anybody there? No.")
    assert 456 in text
    assert ids == [*theirs.sot_sequence_including_notimestamps, *text, theirs.eot]
    timed, _ = MULTILINGUAL.row(Said(SAID, language="de", with_times=True), "translate", False, 448)
    assert timed[3] == theirs.timestamp_begin
    assert MULTILINGUAL.text([*timed[3:], theirs.eot]) == "Is anybody there? No."


def test_languages_without_spaces_get_none() -> None:
    said = (Segment(0.0, 1.0, "こんにちは"), Segment(1.0, 2.0, "世界"))
    row, _ = spelled(MULTILINGUAL, Said(said, language="ja"))
    assert row.endswith("<|notimestamps|>こんにちは世界<|endoftext|>")


def test_the_text_before_is_cut_at_its_beginning() -> None:
    many = tuple(Segment(0.0, 1.0, f"number {n}") for n in range(200))
    row = ENGLISH.row(Said(SAID, previous=many), "transcribe", False, LONGEST)
    start = row.ids.index(ENGLISH.tokenizer.sot)
    assert start == 1 + LONGEST_PREVIOUS
    assert ENGLISH.text(row.ids[1:start]).endswith("number 198 number 199")


@pytest.mark.parametrize(
    ("said", "vocabulary", "message"),
    [
        (Said((Segment(0, 1, "to <|endoftext|>"),)), ENGLISH, r"control token '<\|endoftext\|>'"),
        (Said((Segment(0, 1, "at <|1.00|>"),)), ENGLISH, r"control token '<\|1.00\|>'"),
        (Said((Segment(0, 1, "no " * 500),)), ENGLISH, r"50\d tokens, the decoder takes 448"),
        (
            Said((Segment(0, 1, "no " * 500, place="a.csv:3"),)),
            ENGLISH,
            r"^a\.csv:3: its text is 50",
        ),
        (Said(SAID), MULTILINGUAL, r"not known; expected asr\.language"),
        (Said(SAID, language="yue"), MULTILINGUAL, "doesn't know the language 'yue'"),
    ],
)
def test_what_can_not_be_said_is_unusable(said: Said, vocabulary: Vocabulary, message: str) -> None:
    with pytest.raises(Unusable, match=message):
        vocabulary.row(said, "transcribe", False, LONGEST)


def test_a_vocabulary_that_is_none_of_whispers_is_refused() -> None:
    with pytest.raises(ValueError, match="50257 tokens; Whisper's have 51864, 51865, 51866"):
        _ = Vocabulary(50257).tokenizer
