"""Answers are drawn as the network rates them, and learnt as they were drawn, in every family."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds import exchanges, towers
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.losses import policy
from spark_trainer.rollouts import drawing, learning
from spark_trainer.rollouts.base import Answer, Question, Seen
from spark_trainer.rollouts.in_process import InProcess
from spark_trainer.rollouts.learning import LEARNT, Group, Learnt, Scorer
from tests.families import tiny
from tests.families.conftest import clip

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "llava", "llava_next")
FAMILIES = (*FAMILIES, "llava_onevision")
NUM_ANSWERS, LONGEST = 3, 6
CLIPS = [
    clip(0, "a dog", "what is this?"),
    clip(1, "a lamp", "what can be seen in this video, and what else?", frames=3),
    clip(2, "snow", "who?", size=(60, 80)),
]


def run(name: str, **settings: Any) -> Run:
    rft = {
        "reward_funcs": ["exact"],
        "num_generations": NUM_ANSWERS,
        "max_completion_length": LONGEST,
        "temperature": 1.3,
    }
    small = {"model_type": "rft", "model_name": name, "global_batch_size": 3, "rft": rft}
    return Run(**(small | {"batch_size": 64} | settings))


@pytest.fixture(scope="module", params=FAMILIES)
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(getattr(tiny, request.param)(tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def load(name: str) -> Callable[..., tuple[ChatModel, Loaded, Run]]:
    def load(**settings: Any) -> tuple[ChatModel, Loaded, Run]:
        asked, family = run(name, **settings), families.find(name)
        assert isinstance(family, ChatModel)
        loaded = family.load(name, LoadOptions.of(asked, family.mostly_frozen, "cpu"))
        family.let_learn(loaded.model, asked)
        loaded.model.eval()
        return family, loaded, asked

    return load


@pytest.fixture(autouse=True)
def no_gradient() -> Iterator[None]:
    with torch.no_grad():
        yield


def seen(family: ChatModel, loaded: Loaded, samples: list[Sample]) -> list[Seen]:
    questions = [Question(sample, family.question(loaded, sample)) for sample in samples]
    return [Seen(one, towers.features(loaded.model, one.encoded.vision)) for one in questions]


def plainly(family: ChatModel, loaded: Loaded, asked: Seen, answer: Answer) -> torch.Tensor:
    """Log-probabilities of an answer by a forward pass over it alone, frames and all."""
    encoded, ids = asked.question.encoded, [*answer.ids]
    row = exchanges.answered(encoded.tokens, encoded.vision, ids, len(ids))
    scores, labels = family.logits(loaded, loaded.model, family.collate(loaded, [row], False))
    allowed = drawing.allowed(loaded, torch.device("cpu"))
    return policy.log_probabilities(scores[0], labels[0], allowed, 1.3)[0]


@pytest.mark.parametrize("settings", [{}, {"packing": True}, {"finetune": "lora"}], ids=str)
def test_what_is_learnt_was_drawn(load: Any, settings: dict[str, Any]) -> None:
    """By the full model its projector learns, with adapters no part that sees frames does."""
    family, loaded, asked = load(**settings)
    shown = seen(family, loaded, CLIPS)
    drawn = InProcess(family, loaded, asked).draw(loaded.model, shown, 1, range(NUM_ANSWERS))
    assert [len(answers) for answers in drawn] == [NUM_ANSWERS] * len(CLIPS)
    groups = [
        Group(one, answers, [1.0] * NUM_ANSWERS, flat=False)
        for one, answers in zip(shown, drawn, strict=True)
    ]
    small = asked.model_copy(update={"batch_size": 4})  # a group is spread over two batches
    found = learning.batches(family, loaded, small, groups)
    scorer = Scorer(family, loaded, asked, towers.learns(family, loaded.model))
    assert scorer.tower_learns == ("finetune" not in settings)
    for batch in found:
        learnt: Learnt = batch.tensors[LEARNT]
        log, entropy = scorer.log_probabilities(
            loaded.model, learning.ready(batch, torch.device("cpu"))
        )
        torch.testing.assert_close(log, learnt.drawn_T, rtol=0, atol=1e-6)
        assert (entropy > 0).all()
    if not settings:
        for one, answers in zip(shown, drawn, strict=True):
            expected = torch.tensor(answers[0].log_probabilities)
            alone = plainly(family, loaded, one, answers[0])
            torch.testing.assert_close(alone, expected, rtol=0, atol=1e-6)


def test_the_same_is_said_whatever_is_asked_beside_it(load: Any) -> None:
    family, loaded, asked = load()
    shown = seen(family, loaded, CLIPS)
    together = InProcess(family, loaded, asked).draw(loaded.model, shown, 1, range(NUM_ANSWERS))
    alone = InProcess(family, loaded, asked.model_copy(update={"batch_size": 1}))
    for one, answers in zip(shown, together, strict=True):
        [found] = alone.draw(loaded.model, [one], 1, range(NUM_ANSWERS))
        assert [answer.ids for answer in found] == [answer.ids for answer in answers]
    other = InProcess(family, loaded, asked).draw(loaded.model, shown, 2, range(NUM_ANSWERS))
    assert [a.ids for group in other for a in group] != [a.ids for g in together for a in g]


def test_answers_hold_no_control_token_and_end_where_they_say(load: Any) -> None:
    family, loaded, asked = load()
    shown = seen(family, loaded, CLIPS[:1])
    [answers] = InProcess(family, loaded, asked).draw(loaded.model, shown, 1, range(64))
    allowed = drawing.allowed(loaded, torch.device("cpu"))
    ends = exchanges.ends(loaded)
    assert all(allowed[list(answer.ids)].all() for answer in answers)
    for answer in answers:
        assert answer.ended == (answer.ids[-1] in ends)
        assert not {*answer.ids[:-1]} & {*ends}
        assert answer.ended or len(answer.ids) == LONGEST
    tokenizer = loaded.processor.tokenizer
    special = {number for number in tokenizer.all_special_ids if number not in ends}
    assert special
    assert not allowed[list(special)].any()


def test_greedy_answers_are_upstreams_own(load: Any) -> None:
    family, loaded, asked = load()
    shown = seen(family, loaded, CLIPS)
    found = InProcess(family, loaded, asked).greedy(loaded.model, shown)
    allowed = drawing.allowed(loaded, torch.device("cpu"))
    for one, answer in zip(shown, found, strict=True):
        encoded = one.question.encoded
        inputs = {name: value[None] for name, value in encoded.tokens.items()} | encoded.vision
        ids = loaded.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=LONGEST,
            suppress_tokens=(~allowed).nonzero().flatten().tolist(),
        )
        assert list(answer.ids) == ids[0, len(encoded.labels) :].tolist()
