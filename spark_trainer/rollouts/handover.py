"""The weights of the moment, handed over to a vLLM server through a folder that both see.

What is handed over is called by its content. So a server that holds it already is left alone,
whichever process gave it, and one that was started anew gets it again.
"""

import hashlib
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spark_trainer.config import Run
from spark_trainer.errors import MachineError, told
from spark_trainer.rollouts.vllm import KEY, RolloutError, Server
from spark_trainer.system.chat_server import RequestRefused

if TYPE_CHECKING:
    import torch

DIGITS = 16  # of a digest in a name


class Held(NamedTuple):
    """What a server holds: the name by which it is asked, and what it calls the weights."""

    model: str
    weights: str


@dataclass(frozen=True)
class Handover(ABC):
    """Lets a server answer by the weights of the moment.

    Attributes:
        run: the settings.
        server: who answers.
    """

    run: Run
    server: Server

    @abstractmethod
    def check_answer(self, said: dict[str, Any], held: Held) -> None:
        """Look whether a server answered by the weights that it was given.

        Raises:
            RolloutError: it says that they were others.
        """

    @abstractmethod
    def _holds(self, held: Held) -> bool:
        """Tell whether the server holds the weights already."""

    @abstractmethod
    def _give(self, folder: Path, held: Held) -> None:
        """Let the server read the weights in a folder, and forget earlier ones."""

    @abstractmethod
    def _held(self, weights: str) -> Held:
        """Return what the server will hold."""

    def give(self, model: Any) -> Held:
        """Let the server answer as the network would, one process at a time.

        Raises:
            RolloutError: the server doesn't take the weights.
            MachineError: it doesn't answer, or the folder can't be written.
        """
        from filelock import FileLock
        from safetensors import SafetensorError

        held = self._held(f"{self._prefix}{_digest(model)[:DIGITS]}")
        folder = self._folder / held.weights
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / f"{self._prefix}lock"):
                if not self._holds(held):
                    model.save_pretrained(folder)
                    self._give(folder, held)
                    self._clear(folder)
        except (OSError, SafetensorError) as error:
            raise MachineError(f"{KEY}.weights_dir: {told(error)}") from error
        return held

    @cached_property
    def base(self) -> str:
        """Return the name by which the server knows the model that the run begins with.

        Raises:
            RolloutError: it serves others alone.
        """
        served = [one for one in self.server.served() if not one.is_adapter]
        wanted = {self.run.model_name, _resolved(self.run.model_name)}
        for one in served:
            if wanted & {one.name, one.path, _resolved(one.path)}:
                return one.name
        others = ", ".join(one.name for one in served) or "none"
        raise RolloutError(
            f"{KEY}.server_url: expected a server of {self.run.model_name}, by its path or as its "
            f"--served-model-name (it serves {others})"
        )

    @cached_property
    def _prefix(self) -> str:
        """Return what the names of this run's weights begin with."""
        settings = repr((sorted(self.run.results().items()), self.run.model_name))
        return f"spark-{hashlib.sha256(settings.encode()).hexdigest()[:8]}-"

    @property
    def _folder(self) -> Path:
        given = self.run.rft.vllm.weights_dir
        return Path(given or Path(self.run.output_dir) / ".weights").absolute()

    def _clear(self, kept: Path) -> None:
        """Remove what this run has handed over before."""
        for folder in self._folder.glob(f"{self._prefix}{DIGITS * '[0-9a-f]'}"):
            if folder != kept:
                shutil.rmtree(folder, ignore_errors=True)


class Adapters(Handover):
    """Hands over adapters, each under a name of its own."""

    def check_answer(self, said: dict[str, Any], held: Held) -> None:
        _check(said.get("model"), held)

    def _held(self, weights: str) -> Held:
        return Held(weights, weights)

    def _holds(self, held: Held) -> bool:
        return held.model in {one.name for one in self.server.served()}

    def _give(self, folder: Path, held: Held) -> None:
        try:
            self.server.load_adapter(held.model, folder)
        except RequestRefused as error:
            raise RolloutError(
                f"{error.details}; expected a server that takes the run's adapter, see "
                "--max-lora-rank"
            ) from None
        for one in self.server.served():
            if one.name.startswith(self._prefix) and one.name != held.model:
                self.server.unload_adapter(one.name)


class Whole(Handover):
    """Hands over all weights, in the place of those that the server holds."""

    def check_answer(self, said: dict[str, Any], held: Held) -> None:
        """See `Handover`; where the weights changed amid an answer, it is told from which token."""
        for choice in said.get("choices", ()):
            for span in choice.get("weight_versions") or ({},):
                _check(span.get("version"), held)

    def _held(self, weights: str) -> Held:
        return Held(self.base, weights)

    def _holds(self, held: Held) -> bool:
        return self.server.version() == held.weights

    def _give(self, folder: Path, held: Held) -> None:
        self.server.load_weights(folder, held.weights)


def handover(run: Run) -> Handover:
    """Return what hands a run's weights over."""
    kind = Whole if run.finetune == "full" else Adapters
    return kind(run, Server(run.rft.vllm))


def check(run: Run) -> None:
    """Look whether the server is there, holds the run's model and takes weights.

    Raises:
        RolloutError: it does not.
        MachineError: it doesn't answer.
    """
    made = handover(run)
    made.server.check_takes(adapters=isinstance(made, Adapters))
    assert made.base


def _check(weights: object, held: Held) -> None:
    if weights != held.weights:
        raise RolloutError(
            f"{KEY}.server_url: expected answers by {held.weights} (got some by {weights}); does "
            "another run use the server?"
        )


def _resolved(path: str) -> str:
    """Return where a path leads; what is none, such as a name at a hub, leads below this folder."""
    return str(Path(path).expanduser().resolve())


def _digest(model: "torch.nn.Module") -> str:
    """Return what stands for the content of the weights that learn.

    By a hash of each tensor's bits, made on its device: 3 ms for 10 million numbers on a CPU.
    """
    import torch

    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    hashes: list[int] = torch.stack([torch.hash_tensor(one) for _, one in named]).tolist()
    content = repr([(name, number) for (name, _), number in zip(named, hashes, strict=True)])
    return hashlib.sha256(content.encode()).hexdigest()
