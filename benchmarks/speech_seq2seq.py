"""transformers' Seq2SeqTrainer on the windows of a run folder; one process, started by `speech.py`.

python benchmarks/speech_seq2seq.py <run folder>

The choices are those of the official example (huggingface/transformers,
examples/pytorch/speech-recognition/run_speech_recognition_seq2seq.py): features by
WhisperProcessor, made once and kept by `datasets`, labels by its tokenizer, rows filled up by the
example's own collator, and `freeze_encoder`. The run's sound and texts, batches, optimizer
settings, workers and frozen part hold for both.
"""

import itertools
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from train_setup import WARM
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data.batches import batches
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.speech import SAMPLE_RATE


class Clock(TrainerCallback):
    """Seconds from the end of each step to the end of the next."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._before = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._before)
        self._before = now


@dataclass
class DataCollatorSpeechSeq2SeqWithPadding:
    """Fills up features and labels as the example's class of that name."""

    processor: WhisperProcessor
    decoder_start_token_id: int

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        sound = [{"input_features": one["input_features"]} for one in features]
        texts = [{"input_ids": one["labels"]} for one in features]
        batch = self.processor.feature_extractor.pad(sound, return_tensors="pt")
        padded = self.processor.tokenizer.pad(texts, return_tensors="pt")
        labels = padded["input_ids"].masked_fill(padded.attention_mask.ne(1), -100)
        if (labels[:, 0] == self.decoder_start_token_id).all():
            labels = labels[:, 1:]  # the model's own shift puts it there again
        batch["labels"] = labels
        return batch


def windows(folder: Path, root: Path, run: Run, processor: WhisperProcessor) -> Dataset:
    """Make features and labels of the run's windows, as the example's `prepare_dataset` does.

    Returns:
        the windows of all updates, in the order that the run takes them.
    """
    family: Any = families.find(run.model_name)
    samples = family.splits(folder / "manifest.jsonl", root, run)["train"]

    def made(number: int) -> dict[str, Any]:
        heard = samples[number]
        found = processor.feature_extractor(heard.samples, sampling_rate=SAMPLE_RATE)
        labels = processor.tokenizer(heard.said.text).input_ids
        return {"input_features": found["input_features"][0], "labels": labels}

    count = len(samples)
    updates = batches(samples.lengths(), run.batch_size, run.seed, run.bucketed, 0)
    order = [n % count for numbers in itertools.islice(updates, run.max_steps) for n in numbers]
    return Dataset.from_list([made(number) for number in range(count)]).select(order)


def arguments(folder: Path, run: Run) -> Seq2SeqTrainingArguments:
    """Return the run's settings in transformers' words."""
    return Seq2SeqTrainingArguments(
        output_dir=str(folder / "seq2seq"),
        per_device_train_batch_size=run.batch_size,
        max_steps=run.max_steps,
        learning_rate=run.learning_rate,
        lr_scheduler_type=run.schedule,
        warmup_steps=run.warmup_steps,
        weight_decay=run.weight_decay,
        max_grad_norm=run.max_grad_norm,
        train_sampling_strategy="sequential",
        dataloader_num_workers=run.num_workers,
        seed=run.seed,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
    )


def train(folder: Path) -> None:
    """Train, save the model in `seq2seq/`, and write the seconds of a step to `seq2seq.json`."""
    launched = LaunchedRun.read(RunFolder(folder))
    run = launched.settings
    processor = WhisperProcessor.from_pretrained(run.model_name)
    model = WhisperForConditionalGeneration.from_pretrained(run.model_name, dtype=torch.float32)
    if run.freeze:
        model.freeze_encoder()
        model.model.encoder.gradient_checkpointing = False
    clock = Clock()
    Seq2SeqTrainer(
        model=model,
        args=arguments(folder, run),
        train_dataset=windows(folder, launched.data_root, run, processor),
        data_collator=DataCollatorSpeechSeq2SeqWithPadding(
            processor, model.config.decoder_start_token_id
        ),
        processing_class=processor.feature_extractor,
        callbacks=[clock],
    ).train()
    model.save_pretrained(folder / "seq2seq")
    processor.save_pretrained(folder / "seq2seq")
    steady = clock.seconds[WARM:]
    (folder / "seq2seq.json").write_text(
        json.dumps({"step_s": statistics.median(steady), "seconds": steady})
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]))
