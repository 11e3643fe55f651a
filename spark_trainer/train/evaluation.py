"""What a model in training is measured by: the held-out loss, and texts of a fixed few clips."""

from typing import Any

import torch
from accelerate import Accelerator

from spark_trainer import log, scores
from spark_trainer.config import Run
from spark_trainer.data.dataset import Sample, Unusable
from spark_trainer.train import data


@torch.inference_mode()
def held_out_loss(
    accelerator: Accelerator, model: Any, reader: data.Reader, run: Run
) -> dict[str, float]:
    """Mean loss in nats over every token of the validation part, all processes together.

    Samples that can't be used are named in the log and counted beside it.

    Unwrapped, because a process without a held-out batch would leave the others waiting.
    """
    model = accelerator.unwrap_model(model).eval()
    sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    rank, world = accelerator.process_index, accelerator.num_processes
    for taken in data.held_out(reader, run.batch_size, rank, world):
        for reason in taken.reasons:
            log.logger.warning("left out of validation: %s", reason)
        sums[2] += len(taken.reasons)
        for batch in taken.batches:
            moved = data.moved(batch, accelerator.device)
            with accelerator.autocast():
                loss = reader.family.loss(reader.loaded, model, moved)
            sums[0] += loss.double()
            sums[1] += data.num_targets(batch)
    total, tokens, skipped = accelerator.reduce(sums).tolist()
    mean = total / tokens if tokens else float("nan")
    return {"held_out_loss": mean} | ({"held_out_skipped": skipped} if skipped else {})


@torch.inference_mode()
def texts(model: Any, reader: data.Reader, run: Run) -> list[dict[str, Any]]:
    """What the model says about the first `num_samples` videos of the part."""
    model.eval()
    said = []
    for number in reader.samples.first_of_each_video()[: run.num_samples]:
        try:
            sample: Sample = reader.samples[number]
        except Unusable:
            continue  # counted and named with the held-out loss
        text = reader.family.generate(reader.loaded, model, sample, run.max_new_tokens)
        said.append({"video": sample.video, "caption": sample.answer, "generated": text})
    return said


def rated(said: list[dict[str, Any]]) -> dict[str, float]:
    """BLEU, ROUGE-L and CIDEr of generated texts."""
    if not said:
        return {}
    return scores.scores([one["generated"] for one in said], [one["caption"] for one in said])
