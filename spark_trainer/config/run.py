"""One training run."""

from typing import Any

from pydantic import model_validator

from spark_trainer.config import fitting
from spark_trainer.config.dataset import Text
from spark_trainer.config.devices import Devices
from spark_trainer.config.model import MODEL_TYPES, Model
from spark_trainer.config.monitoring import Monitoring
from spark_trainer.config.optimization import Optimization, Recomputed

SPOKEN = "{transcript}"  # the answer that stands for the segments of what was heard


class Run(Devices, Monitoring, Optimization, Model):  # pydantic puts the last one's keys first
    """One training run."""

    @property
    def samples_per_update(self) -> int:
        """Return the number of samples of one weight update, over all processes."""
        asked = self.batch_size * self.gradient_accumulation_steps
        return self.global_batch_size or asked * max(1, self.gpus) * self.nodes

    @property
    def samples_per_call(self) -> int:
        """Return how many samples a process takes at once: `batch_size` counts answers to them."""
        return max(1, self.batch_size // self.rows_per_sample)

    @property
    def rows_per_sample(self) -> int:
        """Return how many rows of a batch a sample makes: its answers, where those are learnt."""
        return self.rft.num_generations if self.model_type == "rft" else 1

    @property
    def bucketed(self) -> bool:
        """Tell whether batches are formed of samples of similar length.

        Not where answers are drawn: prompts of an update whose references are alike would teach to
        say one thing, whatever is seen.
        """
        return self.model_type != "rft" if self.bucketing is None else self.bucketing

    @property
    def kind(self) -> str:
        """Return the kind of the families that this run's `model_type` trains."""
        return MODEL_TYPES[self.model_type]

    @property
    def sharded(self) -> bool:
        """Tell whether the model is sharded over the processes."""
        return self.use_deepspeed or self.fsdp

    @property
    def recomputed(self) -> Recomputed:
        """Return what is computed a second time; where `auto` is not decided, every layer."""
        return True if self.gradient_checkpointing == "auto" else self.gradient_checkpointing

    @property
    def encoded_ahead(self) -> bool:
        """Tell whether the `encode` step comes before this run."""
        return self.encode_vision or self._clips_ahead or self.states_ahead

    @property
    def states_ahead(self) -> bool:
        """Tell whether what a speech model's frozen encoder makes of the sound is kept."""
        still = "encoder" in (self.freeze or ()) and not self.asr.spec_augment.masks
        return self.kind == "speech" and self.encode == "ahead" and still and not self.from_scratch

    @property
    def texts(self) -> Text:
        """Return the templates; what a speech model learns is what was heard, by default."""
        told = self.kind == "speech" and self.text.answer == Text().answer
        return self.text.model_copy(update={"answer": SPOKEN}) if told else self.text

    @property
    def variants(self) -> int | None:
        """Return the number of random clips of a video; None for a new one in each epoch."""
        return self.clip.variants or (1 if self._clips_ahead else None)

    @property
    def _clips_ahead(self) -> bool:
        return self.kind == "diffusion" and self.encode == "ahead"

    @property
    def holds_out(self) -> bool:
        """Tell whether some videos are kept for the held-out loss."""
        return self.split.holds_out

    def results(self) -> dict[str, Any]:
        """Return the settings that this run's results depend on.

        Settings that the run never reads are left out. Of the batch sizes only the samples of an
        update count, of `encode` only the number of variants, and of `gradient_checkpointing` only
        whether anything is computed a second time. `eval_steps` counts only where the held-out loss
        decides something, `max_eval_samples` there too if it is given; `clip.jpeg_decoding` only
        where it is not `full`, as all runs before it were; `split.validation_paths` only if given.

        The strategy (`use_deepspeed`, `fsdp`) counts, because weights are held in another precision
        by each. DeepSpeed's file does not: precision, batch sizes and clipping in it are the run's,
        and its other settings change only memory and speed.
        """
        values = super().results() | {"global_batch_size": self.samples_per_update}
        values["clip"] = values["clip"] | {"variants": self.variants}
        values["rft"] = self.rft.results()
        values["asr"] = self.asr.results()
        values["bucketing"] = self.bucketed
        values["gradient_checkpointing"] = bool(self.recomputed)
        if self.final == "best" or self.early_stopping:
            values["eval_steps"] = self.eval_steps
            if self.max_eval_samples:
                values["max_eval_samples"] = self.max_eval_samples
        for key in self._unread():
            section, _, name = key.rpartition(".")
            (values[section] if section else values).pop(name)
        return values

    def _unread(self) -> list[str]:
        """List the keys that this run doesn't read."""
        diffusion, speech = self.kind == "diffusion", self.kind == "speech"
        parts = {
            # What stands for the weights of a base is its id, whatever it is called.
            "base_run": True,
            "model_name": self.base_run is not None,
            "rft": self.model_type != "rft",
            "bucketing": self.model_type == "rft",
            "asr": not speech,
            "max_length": diffusion or speech,
            "guidance_dropout": not diffusion,
            "clip.reference": not diffusion,
            "clip.replace": not diffusion,
            "clip.jpeg_decoding": self.clip.jpeg_decoding == "full",
            "text.questions": self.text.questions is None,
            "split.validation_paths": not self.split.validation_paths,
            "split.seed": not (self.split.validation or self.split.test),
            "num_epochs": self.max_steps is not None,
            "lora": self.finetune == "full",
            "save": self.finetune == "full",
            "freeze": self.finetune != "full" and not speech,
            "clip": speech,
        }
        return [key for key, unread in parts.items() if unread]

    @model_validator(mode="after")
    def _fits_together(self) -> "Run":
        fitting.check(self)
        return self
