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


class Weights(NamedTuple):
    """Weights that a server holds, as it calls them, and the model that is asked for them."""

    model: str
    version: str


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
    def check_answer(self, said: dict[str, Any], weights: Weights) -> None:
        """Look whether a server answered by the weights that it was given.

        Raises:
            RolloutError: it says that they were others.
        """

    @abstractmethod
    def _holds(self, weights: Weights) -> bool:
        """Tell whether the server holds the weights already."""

    @abstractmethod
    def _give(self, folder: Path, weights: Weights) -> None:
        """Let the server read the weights in a folder, and forget those before."""

    @abstractmethod
    def _called(self, version: str) -> Weights:
        """Return the weights that the server will hold."""

    def give(self, model: Any) -> Weights:
        """Let the server answer as the network would, one process at a time.

        Raises:
            RolloutError: the server doesn't take the weights.
            MachineError: it doesn't answer, or the folder can't be written.
        """
        from filelock import FileLock
        from safetensors import SafetensorError

        weights = self._called(f"{self._prefix}{_digest(model)[:DIGITS]}")
        folder = self._folder / weights.version
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / f"{self._prefix}lock"):
                if not self._holds(weights):
                    model.save_pretrained(folder)
                    self._give(folder, weights)
        except (OSError, SafetensorError) as error:
            raise MachineError(f"{KEY}.weights_dir: {told(error)}") from error
        return weights

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
        run = self.run
        place = run.model_name, run.manifest_path, str(Path(run.output_dir).absolute())
        told = repr((place, sorted(run.results().items())))
        return f"spark-{hashlib.sha256(told.encode()).hexdigest()[:8]}-"

    @property
    def _folder(self) -> Path:
        given = self.run.rft.vllm.weights_dir
        return Path(given or Path(self.run.output_dir) / ".weights").absolute()

    def _clear(self, kept: str = "") -> None:
        """Remove the files of what this run has handed over, but those of a version."""
        for folder in self._folder.glob(f"{self._prefix}{DIGITS * '[0-9a-f]'}"):
            if folder.name != kept:
                shutil.rmtree(folder, ignore_errors=True)


class Adapters(Handover):
    """Hands over adapters, each under a name of its own."""

    def check_answer(self, said: dict[str, Any], weights: Weights) -> None:
        _check(said.get("model"), weights)

    def _called(self, version: str) -> Weights:
        return Weights(version, version)

    def _holds(self, weights: Weights) -> bool:
        return weights.model in {one.name for one in self.server.served()}

    def _give(self, folder: Path, weights: Weights) -> None:
        try:
            self.server.load_adapter(weights.model, folder)
        except RequestRefused as error:
            raise RolloutError(
                f"{error.details}; expected a server that takes the run's adapter, see "
                "--max-lora-rank"
            ) from None
        for one in self.server.served():
            if one.name.startswith(self._prefix) and one.name != weights.model:
                self.server.unload_adapter(one.name)
        self._clear(kept=weights.version)  # the server may read it again


class Whole(Handover):
    """Hands over all weights, in the place of those that the server holds."""

    def check_answer(self, said: dict[str, Any], weights: Weights) -> None:
        """See `Handover`; where the weights changed amid an answer, it is told from which token."""
        for choice in said.get("choices", ()):
            spans: list[dict[str, Any]] = choice.get("weight_versions") or [{}]
            for span in spans:
                _check(span.get("version"), weights)

    def _called(self, version: str) -> Weights:
        return Weights(self.base, version)

    def _holds(self, weights: Weights) -> bool:
        return self.server.version() == weights.version

    def _give(self, folder: Path, weights: Weights) -> None:
        self.server.load_weights(folder, weights.version)
        self._clear()


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


def _check(version: object, weights: Weights) -> None:
    if version != weights.version:
        raise RolloutError(
            f"{KEY}.server_url: expected answers by {weights.version} (got some by {version}); "
            "does another run use the server?"
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
