"""What a batch of answers is divided by, and what of it is learnt."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.families.kinds import towers
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.rollouts import learning
from spark_trainer.rollouts.base import Answer, Question, Seen
from spark_trainer.rollouts.learning import LEARNT, Group, Learnt
from tests.families import tiny
from tests.families.conftest import clip

Known = tuple[ChatModel, Loaded, Seen]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    name = str(tiny.qwen2_vl(tmp_path_factory.mktemp("qwen")))
    family = families.find(name)
    assert isinstance(family, ChatModel)
    loaded = family.load(name, LoadOptions())
    question = Question(clip(0, "a dog", "what?"), family.question(loaded, clip(0, "a dog")))
    with torch.no_grad():
        features = towers.features(loaded.model, question.encoded.vision)
    return family, loaded, Seen(question, features)


def made(known: Known, flat: bool = False, **rft: Any) -> Batch:
    """An answer of two tokens that ended, and one of three that was cut."""
    family, loaded, seen = known
    own = {"reward_funcs": ["exact"], "max_completion_length": 3, "num_generations": 2}
    run = Run(model_type="rft", global_batch_size=1, rft=own | rft)
    answers = [
        Answer((5, 1), (-1.0, -2.0), ended=True),
        Answer((7, 8, 9), (-3.0,) * 3, ended=False),
    ]
    [batch] = learning.batches(family, loaded, run, [Group(seen, answers, [0.5, -0.5], flat)])
    return batch


def learnt(batch: Batch) -> Learnt:
    found: Learnt = batch.tensors[LEARNT]
    return found


@pytest.mark.parametrize(
    ("loss_type", "targets", "weights"),
    [
        ("dapo", 5, [1.0] * 5),
        ("cispo", 5, [1.0] * 5),
        ("grpo", 2, [1 / 2] * 2 + [1 / 3] * 3),
        ("sapo", 2, [1 / 2] * 2 + [1 / 3] * 3),
        ("dr_grpo", 6, [1.0] * 5),
    ],
)
def test_each_variant_counts_tokens_in_its_way(
    known: Known, loss_type: str, targets: int, weights: list[float]
) -> None:
    batch = made(known, loss_type=loss_type)
    assert batch.num_targets == targets
    assert learnt(batch).tokens.weights_T.tolist() == pytest.approx(weights)
    assert learnt(batch).ids_T.tolist() == [5, 1, 7, 8, 9]
    assert learnt(batch).tokens.owner_T.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(("loss_type", "targets"), [("dapo", 2), ("grpo", 2), ("dr_grpo", 6)])
def test_an_answer_that_was_cut_may_be_left_out(known: Known, loss_type: str, targets: int) -> None:
    """A mean over answers counts it all the same."""
    batch = made(known, loss_type=loss_type, mask_truncated_completions=True)
    assert batch.num_targets == targets
    assert learnt(batch).tokens.weights_T[2:].tolist() == [0.0] * 3


def test_a_flat_group_may_be_left_where_it_is(known: Known) -> None:
    held = made(known, flat=True, mask_flat_groups=True)
    assert learnt(held).tokens.diverges_S is not None
    assert learnt(held).tokens.diverges_S.tolist() == [0.0, 0.0]
    assert learnt(made(known, mask_flat_groups=True)).tokens.diverges_S.tolist() == [1.0, 1.0]
    assert learnt(made(known, flat=True)).tokens.diverges_S.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_what_teaches_nothing_is_counted_and_not_computed(known: Known, beta: float) -> None:
    family, loaded, seen = known
    rft = {"reward_funcs": ["exact"], "max_completion_length": 3, "beta": beta}
    run = Run(model_type="rft", global_batch_size=1, rft=rft)
    said = [Answer((5, 1), (-1.0, -2.0), ended=True)] * 2
    flat, other = Group(seen, said, [0.0, 0.0], True), Group(seen, said, [0.5, -0.5], False)
    [batch] = learning.batches(family, loaded, run, [flat, other])
    assert batch.num_targets == 8
    assert len(learnt(batch).ids_T) == (8 if beta else 4)
    assert learnt(batch).tokens.weights_T.all()
    [alone] = learning.batches(family, loaded, run, [flat, replace(flat)])
    assert alone.num_targets == 8
    assert len(learnt(alone).ids_T) == (8 if beta else 4)
    assert learnt(alone).tokens.weights_T.any() == bool(beta)


def test_no_frame_is_repeated_for_an_answer(known: Known) -> None:
    """A batch holds what the tower made of a question once, whatever the number of answers."""
    batch = made(known)
    [seen] = learnt(batch).seen
    assert learnt(batch).question_of == (0, 0)
    assert not {*batch.tensors} & {*towers.PIXELS.values(), *seen.features}
    assert not {*seen.kept(again=False).question.encoded.vision} & {*towers.PIXELS.values()}
    again = seen.kept(again=True)
    assert {*again.question.encoded.vision} & {*towers.PIXELS.values()}
    assert all(value.is_meta for value in again.features.values())
