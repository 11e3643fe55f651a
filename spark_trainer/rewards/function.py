"""A reward that is a function in a file of the user's, with the signature that TRL calls."""

import copy
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spark_trainer.config.rewards import FUNCTION
from spark_trainer.data.sample import Unusable
from spark_trainer.errors import LONGEST_REASON, MachineError, UserError, of_machine, told
from spark_trainer.rewards.base import KEY, Answered, Given, Reward
from spark_trainer.rewards.reading import shown

ALWAYS = ("prompts", "completions", "completion_ids", "reference", "video")  # what each call has
Failed = (Exception, SystemExit)  # what code of a user may raise; Ctrl-C is none of it


class Function(Reward):
    """`file.py:function`, called once for the answers of a group.

    As TRL calls it: `prompts`, `completions` and `completion_ids` as lists of equal length, and
    beside them a list for each column: `reference`, `video`, and every key of `meta`. A function
    without `**kwargs` gets those that it names. It returns a number for each answer, None where it
    has nothing to say.

    Raises:
        UserError: the file or the function can't be used.
        MachineError: the file can't be read.
    """

    compares = True

    def __init__(self, name: str, given: Given, weight: float = 1.0) -> None:
        super().__init__(given, weight)
        found = FUNCTION.fullmatch(name)
        assert found
        self.name = found["function"]
        self._file = Path(found["file"]).expanduser()
        self._where = f"{KEY}: {self._file}:{self.name}"
        self._call = self._loaded()
        named = inspect.signature(self._call).parameters.values()
        keywords = [
            one for one in named if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)
        ]
        self._takes_all = any(one.kind is one.VAR_KEYWORD for one in named)
        self._takes = {one.name for one in keywords}
        self._needs = {one.name for one in keywords if one.default is one.empty}

    def check(self, reference: str, meta: Mapping[str, Any]) -> None:
        """See `Reward`: each parameter without a default needs a column."""
        for name in sorted(self._needs.difference(ALWAYS, meta)):
            raise Unusable(f"{self._file}:{self.name} asks for {name!r}, which meta doesn't have")

    def scores(self, answered: Answered) -> list[float | None]:
        """See `Reward`."""
        places = range(len(answered.answers))
        try:
            said = self._asked(answered, places)
        except Failed as error:
            raise self._failed(error, self._culprit(answered)) from error
        if not isinstance(said, list | tuple):
            raise UserError(f"{self._where}: expected a list (got {type(said).__name__})")
        if len(said) != len(places):
            first = shown(answered.answers[0])
            raise UserError(
                f"{self._where}: {len(said)} scores for {len(places)} answers; the first answer: "
                f"{first}"
            )
        return [self._number(one, answered.answers[at]) for at, one in enumerate(said)]

    def _loaded(self) -> Callable[..., Any]:
        """Return the function."""
        name = f"reward of {self._file}"  # which hides no package
        spec = importlib.util.spec_from_file_location(name, self._file)
        assert spec
        assert spec.loader
        module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look there
        try:
            spec.loader.exec_module(module)
        except FileNotFoundError as error:
            raise UserError(f"{self._where}: {told(error)}") from None
        except Failed as error:
            raise self._failed(error) from error
        call = getattr(module, self.name, None)
        if not callable(call):
            raise UserError(f"{self._where}: the file has no such function")
        return call  # type: ignore[no-any-return]

    def _asked(self, answered: Answered, places: Sequence[int]) -> Any:
        """Call the function with some of the answers."""
        columns = {**answered.meta, "video": answered.video, "reference": answered.reference}
        values = {name: [value] * len(places) for name, value in columns.items()} | {
            "prompts": [answered.prompt] * len(places),
            "completions": [answered.answers[at] for at in places],
            "completion_ids": [list(answered.token_ids[at]) for at in places],
        }
        if not self._takes_all:
            values = {name: value for name, value in values.items() if name in self._takes}
        return self._call(**copy.deepcopy(values))  # whatever it changes is its own

    def _culprit(self, answered: Answered) -> str:
        """Return the answer at which the function fails; the first where it is none alone."""
        for at, answer in enumerate(answered.answers):
            try:
                self._asked(answered, [at])
            except Failed:
                return answer
        return answered.answers[0]

    def _failed(self, error: BaseException, answer: str | None = None) -> Exception:
        """Return the error to raise where the user's code raises one, with its line."""
        own = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).absolute() == self._file.absolute()
        ]
        line = f"line {own[-1]}: " if own else ""
        said = " ".join(str(error).split())[:LONGEST_REASON]
        text = f"{self._where}: {line}{type(error).__name__}: {said}"
        text += "" if answer is None else f"; the answer: {shown(answer)}"
        return MachineError(text) if of_machine(error) else UserError(text)

    def _number(self, value: Any, answer: str) -> float | None:
        """Return a score as a number.

        Raises:
            UserError: it is none.
        """
        if value is None:
            return None
        try:
            score = math.nan if isinstance(value, str) else float(value)
        except (TypeError, ValueError, OverflowError):
            score = math.nan
        if not math.isfinite(score):
            raise UserError(
                f"{self._where}: expected a number or None (got {value!r}); the answer: "
                f"{shown(answer)}"
            )
        return score
