"""DeepSpeed's shards of a checkpoint as nests: its own engine reads and writes pickles."""

from enum import Enum
from pathlib import Path
from typing import Any

from deepspeed.checkpoint.constants import LOSS_SCALER, OPTIMIZER_STATE_DICT, PARAM_SLICE_MAPPINGS
from deepspeed.runtime.checkpoint_engine import CheckpointCommitInfo
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine

from spark_trainer.train import nest


class NestEngine(CheckpointEngine):  # type: ignore[misc]
    """Read each file of a checkpoint as DeepSpeed asks for it; hold those that it would write."""

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self._engine = engine
        self._held: dict[Path, nest.Snapshot] = {}

    def create(self, info: CheckpointCommitInfo) -> None:
        pass

    def commit(self, info: CheckpointCommitInfo) -> bool:
        return True

    def preserves_storage_sharing(self) -> bool:
        return False

    def save(self, state_dict: dict[str, Any], path: str) -> None:
        state = dict(state_dict)
        if OPTIMIZER_STATE_DICT in state:
            state[OPTIMIZER_STATE_DICT] = _plain(state[OPTIMIZER_STATE_DICT])
        self._held[Path(path)] = nest.Snapshot.of(state)

    def release(self) -> dict[Path, nest.Snapshot]:
        """Return the files that DeepSpeed has saved since the last call."""
        held, self._held = self._held, {}
        return held

    def load(self, path: str, map_location: Any = None) -> dict[str, Any]:
        state: dict[str, Any] = nest.load(Path(path))
        if shards := state.get(OPTIMIZER_STATE_DICT):
            scaler = self._engine.optimizer.loss_scaler
            vars(scaler).update(shards[LOSS_SCALER])
            shards[LOSS_SCALER] = scaler
        return state


def _plain(shards: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's shards without objects; only conversions ask where its slices lie."""
    values = {key: value for key, value in shards.items() if key != PARAM_SLICE_MAPPINGS}
    values[LOSS_SCALER] = vars(shards[LOSS_SCALER])
    return {k: v.value if isinstance(v, Enum) else v for k, v in values.items()}
