"""Answers of a vLLM server that holds the weights of the moment.

The server gets the prompt as a chat with its frames, and says which tokens it made of it: they
have to be those that are learnt. One request is one answer, whose seed depends on nothing but the
answer, so that a server without chance of its own says the same after a resume.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from spark_trainer.config import Run
from spark_trainer.data.sample import Sample
from spark_trainer.errors import MachineError
from spark_trainer.families.kinds import exchanges, prompts
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.rollouts import drawing, handover
from spark_trainer.rollouts.base import Answer, Pictures, Rollout, Seen
from spark_trainer.rollouts.handover import Handover, Weights
from spark_trainer.rollouts.vllm import KEY, RolloutError

AT_ONCE = 64  # requests; the server forms its own batches
FORBIDDEN = -100.0  # added to a score, the least that OpenAI's protocol takes
MILLISECONDS = 1000  # a second: frames are numbered by them


class Asked(NamedTuple):
    """A request, and the tokens of its prompt as they are learnt."""

    request: dict[str, Any]
    prompt: list[int]

    def seeded(self, seed: int) -> "Asked":
        """Return the request for an answer that a seed draws."""
        return self._replace(request=self.request | {"seed": seed})


@dataclass(frozen=True)
class Served(Rollout):
    """Asks for as many answers at a time as a server may be asked for."""

    family: ChatModel
    loaded: Loaded
    run: Run

    def draw(
        self, model: Any, seen: Sequence[Seen], update: int, numbers: range
    ) -> list[list[Answer]]:
        asked = list[Asked]()
        for one in seen:
            drawn = self._asked(one, temperature=self.run.rft.temperature)
            keys = (drawing.key(update, one.question.sample.seed, number) for number in numbers)
            asked += [drawn.seeded(drawing.seed(key)) for key in keys]
        said, count = self._said(model, asked), len(numbers)
        return [said[at : at + count] for at in range(0, len(said), count)]

    def greedy(self, model: Any, seen: Sequence[Seen]) -> list[Answer]:
        return self._said(model, [self._asked(one, temperature=0) for one in seen])

    @cached_property
    def _handover(self) -> Handover:
        return handover.handover(self.run)

    @cached_property
    def _ends(self) -> list[int]:
        return exchanges.ends(self.loaded)

    @cached_property
    def _forbidden(self) -> list[int]:
        """Return the tokens that no answer may hold."""
        import torch

        allowed_V = drawing.allowed(self.loaded, torch.device("cpu"))
        found: list[int] = (~allowed_V).nonzero().flatten().tolist()
        return found

    @cached_property
    def _lacks_bos(self) -> bool:
        """Tell whether the chat template leaves the prompt's first token to the tokenizer."""
        one = Sample("", (), (), prompt="What is this?", answer="grey")
        as_video = self.family.sees_video(self.loaded)
        text, _ = prompts.rendered(self.loaded.processor, one, as_video, num_images=1)
        return prompts.lacks_bos(self.loaded.processor, text)

    def _asked(self, seen: Seen, **options: Any) -> Asked:
        """Return the request for an answer.

        All that a server would take of the checkpoint's `generation_config.json` else is said.
        """
        question = seen.question
        assert question.pictures is not None
        prompt = question.sample.prompt
        text = {"type": "text", "text": prompts.PROMPT if prompt is None else prompt}
        shown, beside = _content(question.pictures)
        content = [*shown, text]
        request = {
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.run.rft.max_completion_length,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "logit_bias": {str(token): FORBIDDEN for token in self._forbidden},
            "add_special_tokens": self._lacks_bos,
            "stop_token_ids": self._ends,
            "ignore_eos": True,  # the server's own, which may be others
            "logprobs": True,
            "return_token_ids": True,
            "return_weight_versions": True,
        }
        return Asked(request | beside | options, question.encoded.tokens["input_ids"].tolist())

    def _said(self, model: Any, asked: Sequence[Asked]) -> list[Answer]:
        """Return an answer to each request.

        Raises:
            RolloutError: one can't be learnt from, or is refused.
            MachineError: the server doesn't answer.
        """
        weights = self._handover.give(model)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            waiting = [pool.submit(self._one, one, weights) for one in asked]
            try:
                return [one.result() for one in waiting]
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _one(self, asked: Asked, weights: Weights) -> Answer:
        def read(said: dict[str, Any]) -> Answer:
            self._handover.check_answer(said, weights)
            self._check_prompt(said.get("prompt_token_ids"), asked.prompt)
            return self._answer(said)

        return self._handover.server.answer(asked.request | {"model": weights.model}, read)

    def _check_prompt(self, seen: list[int] | None, prompt: list[int]) -> None:
        """Look whether the server saw the tokens that are learnt.

        Raises:
            RolloutError: it saw others, or doesn't say.
        """
        if seen is None:
            raise RolloutError(f"{KEY}.server_url: expected vLLM that knows return_token_ids")
        if seen == prompt:
            return
        both = zip(seen, prompt, strict=False)
        differing = (place for place, (a, b) in enumerate(both) if a != b)
        at = next(differing, min(len(seen), len(prompt)))
        theirs, ours = self._spelled(seen[at : at + 1]), self._spelled(prompt[at : at + 1])
        raise RolloutError(
            f"{KEY}.server_url: the server makes {len(seen)} tokens of a prompt, training "
            f"{len(prompt)}; the first that differs is number {at}: {theirs} there, {ours} here; "
            "expected the same chat template and processor"
        )

    def _spelled(self, ids: list[int]) -> str:
        """Return a token with its number, or what says that there is none."""
        return f"{ids[0]} {self.loaded.processor.tokenizer.decode(ids)!r}" if ids else "none"

    def _answer(self, said: dict[str, Any]) -> Answer:
        """Return the answer in what a server said.

        Raises:
            RolloutError: its tokens can't be learnt.
            MachineError: it was not finished.
        """
        try:
            [choice] = said["choices"]
            ids = [int(token) for token in choice["token_ids"]]
            logs = [float(one["logprob"]) for one in choice["logprobs"]["content"]]
            reason = choice["finish_reason"]
        except (LookupError, TypeError, ValueError):
            raise RolloutError(
                f"{KEY}.server_url: expected vLLM that gives tokens and their log-probabilities"
            ) from None
        if reason not in ("stop", "length") or not ids:
            raise MachineError(f"{KEY}.server_url: an answer was left unfinished ({reason})")
        self._check_tokens(ids, logs)
        return Answer(tuple(ids), tuple(logs), ids[-1] in self._ends)

    def _check_tokens(self, ids: list[int], logs: list[float]) -> None:
        """Look whether tokens are an answer as it would be drawn here; raises as `_answer`."""
        longest, ended = self.run.rft.max_completion_length, ids[-1] in self._ends
        wrong = {
            f"{len(logs)} log-probabilities for {len(ids)} tokens": len(logs) != len(ids),
            f"more than {longest} tokens": len(ids) > longest,
            f"an answer of {len(ids)} tokens without an end; is its --max-model-len too small": (
                not ended and len(ids) < longest
            ),
            "tokens behind an end": bool({*ids[:-1]} & {*self._ends}),
        }
        if said := {*ids} & {*self._forbidden}:
            wrong |= {f"the forbidden token {self._spelled([min(said)])}": True}
        for text, found in wrong.items():
            if found:
                raise RolloutError(f"{KEY}.server_url: the server said {text}")


def _content(pictures: Pictures) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return frames as a chat holds them, and what has to stand beside it.

    A video is a sequence of pictures, which vLLM opens by what is in them, whatever it is told to
    be (vllm/multimodal/media/video.py). Its frames are numbered by their milliseconds, because a
    number is whole there.
    """
    if not pictures.as_video:
        urls = [{"url": f"data:image/png;base64,{file}"} for file in pictures.files]
        return [{"type": "image_url", "image_url": url} for url in urls], {}
    times = pictures.times
    gaps, length_s = len(times) - 1, times[-1] - times[0]
    spacing_s = length_s / gaps if gaps and length_s > 0 else 1.0
    frames = {
        "num_frames": -1,
        "fps": MILLISECONDS,
        "frames_indices": [round(time * MILLISECONDS) for time in times],
        "total_num_frames": max(len(times), round(spacing_s * len(times) * MILLISECONDS)),
    }
    url = {"url": f"data:video/jpeg;base64,{','.join(pictures.files)}"}
    return [{"type": "video_url", "video_url": url}], {"media_io_kwargs": {"video": frames}}
