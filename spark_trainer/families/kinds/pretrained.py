"""Families whose networks are transformers' own pretrained models."""

import shutil
from pathlib import Path
from typing import Any

from spark_trainer.config import Run
from spark_trainer.config.optimization import Recomputed
from spark_trainer.families.kinds import recompute
from spark_trainer.families.kinds.base import Kind
from spark_trainer.families.kinds.loading import Loaded, LoadOptions


class Pretrained(Kind):
    """A family that upstream's `from_pretrained` loads and `save_pretrained` saves."""

    def insert(self, config: Any, model: Any) -> None:
        model.add_adapter(config)

    def checkpoint_gradients(self, model: Any, how: Recomputed = True) -> None:
        """See `Kind`.

        transformers lets the output of every embedding need a gradient, the patches' of a frozen
        vision tower too, which is then computed again and differentiated for nothing. Only
        checkpointing that re-enters the backward pass would need that.
        """
        model.activation_checkpointing_enable(
            recompute.options(how), every_n_layers=recompute.every_nth(how)
        )
        model.disable_input_require_grads()

    def export(self, folder: Path, run: Run, loaded: Loaded) -> None:
        loaded.model.save_pretrained(folder)
        if run.finetune != "full" and run.save == "merged":
            self._merge(folder, run)
        loaded.processor.save_pretrained(folder)

    def _merge(self, folder: Path, run: Run) -> None:
        """Put the adapter in `folder` into a freshly loaded base, which is exact whatever it was
        trained over: four-bit weights would be rounded a second time."""
        from peft import PeftModel

        base = self.load(run.model_name, LoadOptions(dtype="auto")).model
        merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
        shutil.rmtree(folder)
        merged.save_pretrained(folder)
