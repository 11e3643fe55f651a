"""The names of the rewards, and a section for each that has settings."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from spark_trainer.config.section import ConfigError, Positive, Runtime, Section

COMPARING = (  # an answer with the reference
    *("bleu", "choice", "cider", "exact", "judge", "numeric", "regression", "rouge_l"),
    "temporal_iou",
)
BONUSES = ("length", "temporal")  # for answers that a comparing reward finds right
REWARDS = (*COMPARING, *BONUSES, "format", "repetition", "soft_overlong")
FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)")  # a user's own

THINK_THEN_ANSWER = (
    r"(?s)<think>(?:(?!</?(?:think|answer)>).)*</think>\s*"
    r"<answer>(?:(?!</?(?:think|answer)>).)+</answer>"
)


class Format(Section):
    """The reward `format`."""

    pattern: str = Field(
        THINK_THEN_ANSWER,
        description="Regular expression that the whole answer matches, in Python's syntax. Where "
        "it has `<answer>`, the other rewards read what stands in the last one of an answer.",
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"a regular expression, but {error}") from None
        return value


class Length(Section):
    """The reward `length`."""

    min_tokens: int = Field(320, ge=0, description="Tokens of a right answer at least.")
    max_tokens: int = Field(512, ge=1, description="Tokens of a right answer at most.")

    @model_validator(mode="after")
    def _hold_a_length(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ConfigError("min_tokens: expected at most max_tokens")
        return self


class Judge(Section):
    """The reward `judge`: a language model on a server with OpenAI's protocol."""

    server_url: str = Field(
        "http://localhost:8000/v1",
        description="Address of the server, up to `/v1`; its key is in OPENAI_API_KEY.",
        json_schema_extra=Runtime,
    )
    server_timeout_s: Positive = Field(
        120.0, description="Longest wait for a verdict, in seconds.", json_schema_extra=Runtime
    )
    model_name: str = Field("", description="Name by which the server knows the model.")
    prompt: str | None = Field(
        None,
        description="What it is asked, with `{prompt}`, `{reference}` and `{answer}` put in: the "
        "first number of its reply counts, divided by `highest`. Without it how well the answer "
        "agrees with the reference, from 0 to 10.",
    )
    highest: Positive = Field(10.0, description="The number for a perfect answer.")
    max_new_tokens: int = Field(16, ge=1, description="Tokens of a reply at most.")

    @field_validator("prompt")
    @classmethod
    def _has_the_answer(cls, value: str | None) -> str | None:
        if value is not None and "{answer}" not in value:
            raise ValueError("a text with `{answer}`")
        return value


class Numeric(Section):
    """The reward `numeric`."""

    tolerance: float = Field(
        0.0, ge=0, description="Difference that counts as none, as a share of the reference."
    )


class Repetition(Section):
    """The reward `repetition`."""

    ngram_size: int = Field(3, ge=1, description="Words of what is counted.")
    max_penalty: float = Field(-1.0, le=0, description="Score of an answer that only repeats.")


class SoftOverlong(Section):
    """The reward `soft_overlong`."""

    cache: int | None = Field(
        None,
        ge=1,
        description="Tokens before `max_completion_length` over which the score falls from 0 to "
        "-1; without it a fifth.",
    )


class Temporal(Section):
    """The reward `temporal`."""

    ratio: Positive = Field(
        0.8,
        description="The group's mean score is at least this share of that over shuffled frames; "
        "the paper's is 1.",
    )


class Rewards(Section):
    """The settings of the rewards, by name; only those of `reward_funcs` count."""

    format: Format = Field(default_factory=Format)
    judge: Judge = Field(default_factory=Judge)
    length: Length = Field(default_factory=Length)
    numeric: Numeric = Field(default_factory=Numeric)
    repetition: Repetition = Field(default_factory=Repetition)
    soft_overlong: SoftOverlong = Field(default_factory=SoftOverlong)
    temporal: Temporal = Field(default_factory=Temporal)


def check(asked: tuple[str, ...], settings: Rewards) -> None:
    """Refuse rewards that are none, that can't stand together, or that lack a setting.

    Raises:
        ConfigError: the message names the key and what was expected.
    """
    names = []
    for one in asked:
        own = FUNCTION.fullmatch(one)
        if one not in REWARDS and not own:
            raise ConfigError(
                f"reward_funcs: unknown reward {one!r}; expected one of: "
                f"{', '.join(sorted(REWARDS))}, or a function of yours as file.py:function"
            )
        names.append(own["function"] if own else one)
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"reward_funcs: two are called {twice[0]}; expected different names")
    compared = any(one in COMPARING or one not in REWARDS for one in asked)
    if (bonus := next((one for one in asked if one in BONUSES), None)) and not compared:
        raise ConfigError(
            f"reward_funcs: {bonus} is for right answers; expected a reward beside it that says "
            f"which are right, such as {', '.join(COMPARING[:4])}"
        )
    if "judge" in asked:
        _check_judge(settings.judge)


def _check_judge(judge: Judge) -> None:
    if not judge.model_name:
        raise ConfigError("rewards.judge.model_name: expected the name of the judge's model")
    if not judge.server_url.startswith(("http://", "https://")):
        raise ConfigError(
            f"rewards.judge.server_url: expected http://… or https://… (got {judge.server_url!r})"
        )
