"""No family learns or is told a text with one of its tokenizer's own marks; any other is kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Tokenizer

from spark_trainer import families
from spark_trainer.data import control
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from tests.families import tiny, tiny_pipelines
from tests.families.conftest import clip
from tests.families.golden import DIFFUSION, VARIANTS

ARE_TOLD = sorted({*DIFFUSION} - {"svd"})  # which reads no text
PIECES = (
    "a dog",
    " ",
    "<b>",
    "2 < 3",
    "[SEP",
    "SEP]",
    "</s",
    "<|im_",
    "end|>",
    "&amp;",
    "<image",
    "🦩",
)
PIECES = (*PIECES, "[", "]", "<", ">", "|", "extra_id_", "Paris")

Learn = Callable[[Sample], object]


@pytest.fixture(scope="module", params=[*VARIANTS, *ARE_TOLD])
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Loaded]:
    maker = tiny_pipelines if request.param in ARE_TOLD else tiny
    folder = getattr(maker, request.param)(tmp_path_factory.mktemp(request.param))
    found = families.find(str(folder))
    return found, found.load(str(folder), LoadOptions())


def learn(family: Any, loaded: Loaded, sample: Sample) -> None:
    """What a worker process does before the device sees a sample."""
    if family.kind == "diffusion":
        family.refuse(loaded, sample)
    else:
        images = sample.images[:1] if family.one_frame else sample.images
        family.encode(loaded, replace(sample, images=images), 4096)


def sample(family: Any, text: str) -> Sample:
    frames = 5 if family.model_types == ("WanAnimatePipeline",) else 4
    return clip(0, text, frames=frames)


def marks(loaded: Loaded) -> set[str]:
    """Every special token of the tokenizer, and what stands for an image or a video."""
    tokenizer = loaded.processor.tokenizer
    special = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    named = {getattr(loaded.processor, f"{kind}_token", None) for kind in ("image", "video")}
    return special | {*tokenizer.all_special_tokens} | {str(n) for n in named if n}


def test_every_mark_is_refused_wherever_it_stands(family: tuple[Any, Loaded]) -> None:
    found, loaded = family
    assert len(marks(loaded)) > 1
    for mark in marks(loaded):
        for text in (mark, f"a dog {mark} runs", f"dog{mark}"):
            message = f"video {0:064x}: its text holds the control token"
            with pytest.raises(Unusable, match=message):
                learn(found, loaded, sample(found, text))
            if found.kind != "diffusion":
                asked = replace(sample(found, "a dog"), prompt=text)
                with pytest.raises(Unusable, match=message):
                    learn(found, loaded, asked)
            elif found.text_conditioned:
                with pytest.raises(Unusable, match="holds the control token"):
                    found.text(loaded, text)  # type: ignore[attr-defined]


def test_what_merely_looks_alike_is_kept(family: tuple[Any, Loaded]) -> None:
    found, loaded = family
    alike = {"<b>", "a [SEP", "2 < 3", "R&D", "<|x|> {y} 🦩"}
    alike |= {cut for mark in marks(loaded) for cut in (mark[:-1], mark[1:], " ".join(mark))}
    for text in alike:
        control.refuse(loaded.processor, "it", text)
    learn(found, loaded, sample(found, "<b> 2 < 3, a [SEP 🦩"))


@pytest.mark.long
@given(pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=6), data=st.data())
@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_text_is_refused_only_for_a_mark(
    family: tuple[Any, Loaded], pieces: list[str], data: st.DataObject
) -> None:
    _, loaded = family
    known = sorted(marks(loaded))
    text = "".join(pieces)
    if not any(mark in text for mark in known):
        control.refuse(loaded.processor, "it", text)
    place = data.draw(st.integers(0, len(text)))
    text = text[:place] + data.draw(st.sampled_from(known)) + text[place:]
    with pytest.raises(Unusable, match=r"^it holds"):
        control.refuse(loaded.processor, "it", text)


class Pipeline:
    """Holds a tokenizer as upstream's pipelines do, and cleans no text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer


def test_the_marks_that_t5_fills_gaps_with_are_refused() -> None:
    words = Pipeline(T5Tokenizer(extra_ids=3))
    for token in ("<extra_id_0>", "<extra_id_2>", "</s>", "<pad>", "<unk>"):
        with pytest.raises(Unusable, match=f"the control token '{token}'"):
            control.refuse(words, "it", f"a dog {token}")
    control.refuse(words, "it", "<extra_id_3> 🦩 <extra_id_>")


def test_another_spelling_that_the_tokenizer_takes_is_refused() -> None:
    """Small letters are read for capitals, and one token means an end and what is not known."""
    end = "<|endoftext|>"
    backend = Tokenizer(models.WordLevel({end: 0, "a": 1, "dog": 2}, unk_token=end))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens([AddedToken(end, normalized=True)])
    words = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, unk_token=end)
    with pytest.raises(Unusable, match=r"the control token '<\|endoftext\|>'"):
        control.refuse(Pipeline(words), "it", "A dog <|EndOfText|>")
    control.refuse(Pipeline(words), "it", "A dog and whatever is not known")


@pytest.mark.parametrize("text", ["a &lt;/s&gt; b", "&amp;lt;/s&amp;gt;", "a ＜/s＞"])
def test_what_a_pipeline_makes_of_a_text_counts(text: str, tmp_path: Path) -> None:
    """Wan's mends characters and unescapes HTML twice before the tokenizer reads."""
    folder = str(tiny_pipelines.wan_animate(tmp_path))
    found: Any = families.find(folder)
    loaded = found.load(folder, LoadOptions())
    with pytest.raises(Unusable, match="holds the control token '</s>'"):
        found.refuse(loaded, sample(found, text))
    found.refuse(loaded, sample(found, "R&amp;D &lt;b&gt;"))
