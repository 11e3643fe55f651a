"""The settings of reinforcement fine-tuning, by the names that TRL gives them."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from spark_trainer.config import rewards
from spark_trainer.config.rewards import Rewards
from spark_trainer.config.section import ConfigError, Positive, Section
from spark_trainer.config.vllm import Vllm


class Rft(Section):
    """Reinforcement fine-tuning by GRPO, for `model_type: rft`: a model learns from rewards."""

    reward_funcs: tuple[str, ...] = Field(
        (),
        description="Names of the rewards that are added up, or functions of yours as "
        "`file.py:function`.",
    )
    reward_weights: tuple[float, ...] | None = Field(
        None, description="A factor for each of `reward_funcs`; without it 1."
    )
    rewards: Rewards = Field(default_factory=Rewards)
    gate_format: bool = Field(
        True,
        description="Answers whose `format` reward is 0 gain nothing from the other rewards; what "
        "these take away counts all the same.",
    )
    num_generations: int = Field(
        8, ge=2, description="Answers to each prompt, a group: rewards count within it."
    )
    max_completion_length: int = Field(
        256, ge=1, description="Tokens of an answer at most, its end included."
    )
    temperature: Positive = Field(
        1.0, description="Scores of tokens are divided by it, as answers are drawn and in the loss."
    )
    loss_type: Literal["grpo", "dr_grpo", "dapo", "cispo", "sapo"] = Field(
        "dapo", description="What is learnt of a token, and what the sum over tokens is divided by."
    )
    importance_sampling_level: Literal["token", "sequence"] = Field(
        "token", description="Clip the ratio of each token, or that of a whole answer as GSPO does."
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group",
        description="Advantages are divided by the standard deviation of rewards in the group, in "
        "the update, or not at all.",
    )
    epsilon: Positive = Field(0.2, description="A ratio below 1 - epsilon is clipped.")
    epsilon_high: Positive | None = Field(
        None,
        description="A ratio above 1 + epsilon_high is clipped, with `cispo` one above "
        "epsilon_high; without it 0.28, with `cispo` 5.",
    )
    delta: float | None = Field(
        None, gt=1, description="Largest ratio where the advantage is negative; without it any."
    )
    beta: float = Field(
        0.0, ge=0, description="Weight of the KL divergence from the weights at the start."
    )
    use_bias_correction_kl: bool = Field(
        True, description="Weigh that divergence by the ratio, which makes its gradient unbiased."
    )
    num_iterations: int = Field(1, ge=1, description="Updates by the answers of one rollout.")
    mask_truncated_completions: bool = Field(
        False, description="Learn nothing from answers that were cut before their end."
    )
    dynamic_sampling: bool = Field(
        False, description="Replace prompts whose answers all get one reward by further ones."
    )
    max_resample_times: int = Field(
        3, ge=0, description="Rounds of further prompts at most, with `dynamic_sampling`."
    )
    mask_flat_groups: bool = Field(
        False, description="Leave the KL divergence out where all answers get one reward."
    )
    vllm: Vllm = Field(default_factory=Vllm)

    @property
    def reads_tags(self) -> bool:
        """Tell whether an answer is what stands in its last `<answer>`."""
        return "format" in self.reward_funcs and "<answer>" in self.rewards.format.pattern

    def results(self) -> dict[str, Any]:
        """Return the settings that a result depends on: of rewards those that are asked.

        A server draws by numbers of its own, but its address does not count.
        """
        sections = {name: getattr(self.rewards, name, None) for name in self.reward_funcs}
        asked = {name: one.results() for name, one in sections.items() if one is not None}
        values = super().results() | {"rewards": asked}
        if self.vllm.server_url is None:
            del values["vllm"]
        else:
            values["vllm"] = self.vllm.results()
        return values

    @model_validator(mode="after")
    def _rewards_are_known(self) -> Self:
        rewards.check(self.reward_funcs, self.rewards)
        wanted, given = len(self.reward_funcs), self.reward_weights
        if given is not None and len(given) != wanted:
            raise ConfigError(
                f"reward_weights: expected {wanted} numbers, one for each of reward_funcs "
                f"(got {len(given)})"
            )
        cache = self.rewards.soft_overlong.cache
        if "soft_overlong" in self.reward_funcs and (cache or 0) > self.max_completion_length:
            raise ConfigError(
                f"rewards.soft_overlong.cache: expected at most max_completion_length, "
                f"{self.max_completion_length} (got {cache})"
            )
        return self

    @property
    def clip_high(self) -> float:
        """Return `epsilon_high`, or what the method's paper has in its place."""
        if self.epsilon_high is not None:
            return self.epsilon_high
        return 5.0 if self.loss_type == "cispo" else 0.28
