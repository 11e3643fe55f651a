"""The row of tokens of a window, as Whisper reads and writes it (Radford et al. 2022, 2.3).

    [startofprev, previous text…] startoftranscript [language task] [notimestamps] text… endoftext

English-only models have neither language nor task. Of a window in which nobody speaks the row is
`startoftranscript nospeech endoftext`. Tokens are those of openai-whisper's own tokenizer, whose
files are in its package: tokenizers that come with weights have other merges of words, and lack
tokens of times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from spark_trainer.data.sample import Unusable
from spark_trainer.speech import WINDOW_S
from spark_trainer.speech.formats import vocabulary
from spark_trainer.speech.heard import UNSPACED, Said, joined
from spark_trainer.speech.segments import Segment

if TYPE_CHECKING:
    from whisper.tokenizer import Tokenizer

TIME_STEP_S = 0.02
LONGEST_PREVIOUS = 223  # tokens: half of the decoder's 448 with `startofprev`


class Row(NamedTuple):
    """Tokens (L,) of a window, and which of them are learnt."""

    ids: list[int]
    learnt: list[bool]


@dataclass(frozen=True)
class Vocabulary:
    """What a model of a vocabulary's size can say.

    Attributes:
        size: number of its tokens, as its configuration tells.
    """

    size: int

    @property
    def multilingual(self) -> bool:
        """Tell whether the model knows other languages than English."""
        return vocabulary.multilingual(self.size)

    @property
    def languages(self) -> tuple[str, ...]:
        """Return the codes of the languages that the model knows."""
        return tuple(self.tokenizer.all_language_codes) if self.multilingual else ("en",)

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """Return openai-whisper's tokenizer of this size."""
        return vocabulary.openai(self.size)

    def prefix(self, language: str | None, task: str) -> list[int]:
        """Return what a window's text follows: the start, and of multilingual models two more.

        Raises:
            Unusable: the language is not told, or the model doesn't know it.
        """
        tokenizer = self.tokenizer
        if not self.multilingual:
            return [tokenizer.sot]
        if language is None:
            raise Unusable("its language is not known; expected asr.language")
        if language not in self.languages:
            raise Unusable(f"the model doesn't know the language {language!r}")
        chosen = tokenizer.transcribe if task == "transcribe" else tokenizer.translate
        return [tokenizer.sot, tokenizer.to_language_token(language), chosen]

    def row(self, said: Said, task: str, learns_language: bool, longest: int) -> Row:
        """Return the row of a window.

        What is never predicted when a model is used is not learnt: the text before, and the start
        after it.

        Args:
            said: what is said in the window.
            task: `transcribe` or `translate`.
            learns_language: whether language and task are learnt, too.
            longest: tokens that the decoder takes.

        Raises:
            Unusable: it is longer, a text holds a control token, or the language can't be said; the
                place of the text is named, where it is known.
        """
        try:
            return self._row(said, task, learns_language, longest)
        except Unusable as error:
            place = next((one.place for one in said.segments if one.place), None)
            raise Unusable(f"{place}: {error}" if place else str(error)) from None

    def _row(self, said: Said, task: str, learns_language: bool, longest: int) -> Row:
        previous, tokenizer = self._previous(said), self.tokenizer
        if said.segments:
            given = self.prefix(said.language, task)
            body = [*([] if said.with_times else [tokenizer.no_timestamps]), *self._body(said)]
        else:
            given, body = [tokenizer.sot], [tokenizer.no_speech]
        ids = [*previous, *given, *body, tokenizer.eot]
        if len(ids) > longest:
            raise Unusable(f"its text is {len(ids)} tokens, the decoder takes {longest}")
        told = [False] + [learns_language] * (len(given) - 1)
        return Row(ids, [False] * len(previous) + told + [True] * (len(body) + 1))

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens that a model wrote, without those of times and control."""
        plain = [token for token in ids if token < self.tokenizer.eot]
        return str(self.tokenizer.decode(plain)).strip()

    def _body(self, said: Said) -> list[int]:
        if not said.with_times:
            return self._encoded(said.text, said.language)
        ids = list(self._timed(said.segments, said.language))
        return ids if said.cut is None else [*ids, self._time(said.cut)]

    def _previous(self, said: Said) -> list[int]:
        """Return the end of the text before, with times where the window has some."""
        if not said.previous:
            return []
        if said.with_times:
            ids = list(self._timed(said.previous, said.language))
        else:
            ids = self._encoded(joined(said.previous, said.language), said.language)
        return [self.tokenizer.sot_prev, *ids[-LONGEST_PREVIOUS:]]

    def _timed(self, segments: Sequence[Segment], language: str | None) -> Iterator[int]:
        for one in segments:
            yield self._time(one.start)
            yield from self._encoded(one.text, language)
            yield self._time(one.end)

    def _time(self, seconds: float) -> int:
        """Return the token of a time from the window's start."""
        begin = int(self.tokenizer.no_timestamps) + 1
        return begin + round(min(max(seconds, 0.0), WINDOW_S) / TIME_STEP_S)

    def _encoded(self, text: str, language: str | None) -> list[int]:
        """Return a text's tokens; Whisper begins it with a space where words have some between."""
        for token in self.tokenizer.special_tokens:
            if token in text:
                raise Unusable(f"its text holds the control token {token!r}")
        return list(self.tokenizer.encode(text if language in UNSPACED else f" {text}"))
