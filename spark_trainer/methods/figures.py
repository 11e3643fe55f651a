"""What is recorded of updates that learn from rewards, under the names in `metrics.jsonl`."""

from collections.abc import Iterable, Mapping, Sequence

from spark_trainer.methods.rating import Rated
from spark_trainer.methods.tally import Measured

# Names in the metrics: of each update, and of its rollout if it begins with one.
ENTROPY, KL = "entropy", "kl"
CLIPPED_LOW, CLIPPED_HIGH = "clip_ratio/low_mean", "clip_ratio/high_mean"
LENGTH, CUT = "completions/mean_length", "completions/clipped_ratio"
REWARD, FLAT = "reward", "frac_reward_zero_std"
IMPORTANCE = "sampling/importance_ratio"
SCORING = "scoring_s"  # seconds that the rewards took
MEANS = (ENTROPY, KL, CLIPPED_LOW, CLIPPED_HIGH, LENGTH, CUT, REWARD, FLAT, IMPORTANCE, SCORING)
# Of tokens, and of the seconds that they took.
SPEEDS = {
    "rollout_tokens_per_s": ("rollout_tokens", "rollout_s"),
    "learning_tokens_per_s": ("learning_tokens", "learning_s"),
}


def every(rewards: Iterable[str]) -> list[str]:
    """Name all that is counted, given the names of the rewards."""
    speeds = (name for both in SPEEDS.values() for name in both)
    return [*MEANS, *map(_part, rewards), *speeds]


def of_rollout(
    rated: Sequence[Rated], took: float, rewards: Iterable[str]
) -> dict[str, list[float | None]]:
    """Return what is counted of a rollout.

    Args:
        rated: its answers, by questions.
        took: seconds of it all.
        rewards: their names.

    Returns:
        Name -> a value for each answer, question or rollout; None is left out.
    """
    said = [answer for one in rated for answer in one.answers]
    lengths = [float(len(one.ids)) for one in said]
    scoring = sum(one.scored.seconds for one in rated)
    return {
        LENGTH: [*lengths],
        CUT: [float(not one.ended) for one in said],
        FLAT: [float(one.flat) for one in rated],
        REWARD: [reward for one in rated for reward in one.scored.rewards],
        "rollout_tokens": [sum(lengths)],
        "rollout_s": [took - scoring],
        SCORING: [scoring],
        **{_part(name): [x for one in rated for x in one.scored.parts[name]] for name in rewards},
    }


def values(found: Mapping[str, Measured], rewards: Iterable[str]) -> dict[str, float]:
    """Return what is written of an update, from what was counted in all processes."""
    written = {name: found[name].mean for name in MEANS if name in found}
    if REWARD in found:
        written["reward_std"] = found[REWARD].std
    for name in (name for name in map(_part, rewards) if name in found):
        written |= {f"{name}/mean": found[name].mean, f"{name}/std": found[name].std}
    for name, (tokens, seconds) in SPEEDS.items():
        if tokens in found and seconds in found:
            # The seconds are the mean of the processes, which work side by side.
            written[name] = found[tokens].mean * found[tokens].count / found[seconds].mean
    return written


def _part(reward: str) -> str:
    return f"rewards/{reward}"
