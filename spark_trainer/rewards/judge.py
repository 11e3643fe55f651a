"""Reward `judge`: a language model on a server says how well an answer agrees."""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from spark_trainer.rewards import reading
from spark_trainer.rewards.base import Answered, Given, Reward
from spark_trainer.system import log
from spark_trainer.system.chat_server import ChatServer, RequestRefused

SERVER = "train.rft.rewards.judge.server"
PROMPT = """\
Question: {prompt}
Reference answer: {reference}
Answer: {answer}
How well does the answer agree with the reference answer? Reply with a number from 0 to 10 alone."""
PLACE = re.compile(r"\{(prompt|reference|answer)\}")
KEPT = 1 << 16  # verdicts that are remembered


class Judge(Reward):
    """The first number of the judge's reply over `judge.highest`, 0 to 1; no answer is asked twice.

    The judge gets texts alone, at temperature 0. One that can't be reached stops the run. A reply
    without a number, or with one out of range, says nothing of the answer (None), and is logged.
    """

    name = "judge"
    compares = True

    def __init__(self, given: Given, weight: float = 1.0) -> None:
        super().__init__(given, weight)
        self._settings = settings = given.rft.rewards.judge
        self._server = ChatServer(SERVER, settings.server_url, settings.server_timeout_s)
        self._verdict = lru_cache(KEPT)(self._asked)

    def scores(self, answered: Answered) -> list[float | None]:
        """See `Reward`.

        Raises:
            UserError: the server doesn't know the model, the address or the key.
            MachineError: the server doesn't answer.
        """
        wanted, tags = reading.in_tags(answered.reference), self._rft.reads_tags
        said = [reading.in_tags(answer, tags) for answer in answered.answers]
        questions = {one: self._question(answered.prompt, wanted, one) for one in said}
        with ThreadPoolExecutor(len(questions)) as pool:
            replies = [*pool.map(self._verdict, questions.values())]
        for reply in replies:
            if isinstance(reply, str):  # it may quote the answer: the hash lets `forget` find it
                log.logger.warning("judge %s: %s", answered.video[:12], reply)
        verdicts = {
            one: None if isinstance(reply, str) else reply
            for one, reply in zip(questions, replies, strict=True)
        }
        return [verdicts[one] for one in said]

    def _question(self, prompt: str, reference: str, answer: str) -> str:
        values = {"prompt": prompt, "reference": reference, "answer": answer}
        return PLACE.sub(lambda place: values[place[1]], self._settings.prompt or PROMPT)

    def _asked(self, question: str) -> float | str:
        """Return the judge's verdict on an answer, or why there is none; raises as `scores`."""
        settings = self._settings
        request = {
            "model": settings.model_name,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": settings.max_new_tokens,
            "temperature": 0,
        }
        try:
            reply = self._server.ask(request)
        except RequestRefused as error:
            return f"no verdict: {error}"
        found = reading.NUMBER.search(reply)
        value = reading.number(found[0]) if found else None
        if value is None or not 0 <= value.value <= settings.highest:
            return f"no verdict in its reply {reading.shown(reply)}"
        return value.value / settings.highest
