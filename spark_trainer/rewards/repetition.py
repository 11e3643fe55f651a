"""Reward `repetition`: an answer that says the same again and again loses."""

from spark_trainer.rewards.base import Answered, Reward


class Repetition(Reward):
    """`max_penalty` · (1 - different n-grams / all n-grams), of words in lower case.

    From Yeo et al. 2025 (arXiv:2502.03373, appendix C.2), over words as open-r1 has it. A text of
    fewer words than an n-gram gets 0.
    """

    name = "repetition"

    def scores(self, answered: Answered) -> list[float | None]:
        """See `Reward`."""
        wanted = self._rft.rewards.repetition
        return [wanted.max_penalty * _repeated(one, wanted.ngram_size) for one in answered.answers]


def _repeated(text: str, size: int) -> float:
    """Return the share of n-grams that were there before."""
    words = text.lower().split()
    ngrams = [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
