"""One exchange of a conversation as tokens: a question, and an answer behind it."""

from typing import TYPE_CHECKING

from spark_trainer.data import control
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families.kinds.batch import IGNORED, Encoded
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.families.kinds.padding import PER_TOKEN

if TYPE_CHECKING:
    import torch


def refuse(loaded: Loaded, video: str, *texts: str | None) -> None:
    """Refuse texts about a video that hold a control token.

    Raises:
        Unusable: one of them does.
    """
    control.refuse(loaded.processor, f"video {video}: its text", *texts)


def exchange(
    loaded: Loaded, sample: Sample, inputs: "dict[str, torch.Tensor]", rest: str, max_length: int
) -> Encoded:
    """Return a question with its answer behind it.

    Args:
        loaded: the model and its processor.
        sample: whose they are.
        inputs: the question as generation takes it.
        rest: the text from where the answer starts.
        max_length: tokens at most; a longer answer is cut.

    Raises:
        Unusable: the question alone fills `max_length`.
    """
    asked = question(inputs)
    num_asked = len(asked.labels)
    room = max_length - num_asked
    if room < 1:
        raise Unusable(
            f"video {sample.video}: prompt and images are {num_asked} tokens, "
            f"train.max_length is {max_length}; raise it, or lower train.clip.num_frames or "
            "train.clip.max_side_px"
        )
    answer = loaded.processor.tokenizer(rest, add_special_tokens=False).input_ids
    if answer[-1] not in ends(loaded):
        answer = [*answer, ends(loaded)[0]]
    return answered(asked.tokens, asked.vision, answer, room)


def question(inputs: "dict[str, torch.Tensor]") -> Encoded:
    """Return a question, as generation takes it, as a sample of which nothing is learnt."""
    import torch

    tokens = {name: value[0] for name, value in inputs.items() if name in PER_TOKEN}
    vision = {name: value for name, value in inputs.items() if name not in PER_TOKEN}
    labels = torch.full_like(tokens["input_ids"], IGNORED)
    return Encoded(tokens, labels, vision, cut=False)


def answered(
    tokens: "dict[str, torch.Tensor]",
    vision: "dict[str, torch.Tensor]",
    answer: list[int],
    room: int,
) -> Encoded:
    """Return a question with its answer behind it.

    Args:
        tokens: tensors (L) of the question's tokens.
        vision: tensors of its images.
        answer: the answer's tokens, its end among them.
        room: how many of them there is room for.
    """
    import torch

    asked, said = tokens["input_ids"], torch.tensor(answer[:room])
    longer = {"input_ids": torch.cat([asked, said])}
    for name in tokens.keys() - {"input_ids"}:
        value = 1 if name == "attention_mask" else 0
        longer[name] = torch.cat([tokens[name], torch.full_like(said, value)])
    labels = torch.cat([torch.full_like(asked, IGNORED), said])
    return Encoded(longer, labels, vision, len(answer) > room)


def ends(loaded: Loaded) -> list[int]:
    """Return the tokens at which generation stops."""
    known = loaded.model.generation_config.eos_token_id
    ends = known if isinstance(known, list) else [known]
    found = [
        token for token in (*ends, loaded.processor.tokenizer.eos_token_id) if token is not None
    ]
    return list(dict.fromkeys(found))
