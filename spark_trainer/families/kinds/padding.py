"""Samples of different length in one batch: rows filled up, images one after the other."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from spark_trainer.families.kinds.batch import IGNORED, Encoded

if TYPE_CHECKING:
    import torch

PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


def groups(encoded: Sequence[Encoded]) -> list[list[Encoded]]:
    """Return samples that fit in one batch: videos (1, T, C, H, W) of as many frames together."""
    found: dict[int, list[Encoded]] = {}
    for one in encoded:
        found.setdefault(num_frames(one.vision), []).append(one)
    return list(found.values())


def num_frames(vision: "dict[str, torch.Tensor]") -> int:
    """Return the frames T of a video (1, T, C, H, W), 0 where a family flattens them.

    Of a video's features (1, L, D), of which a tower made as many for each frame, return L.
    """
    video = vision.get("pixel_values_videos", vision.get("video_features"))
    return video.shape[1] if video is not None and video.ndim in (3, 5) else 0


def num_learnt(labels_BL: "torch.Tensor") -> int:
    """Return how many tokens are learnt."""
    return int((labels_BL != IGNORED).sum())


def pad(encoded: Sequence[Encoded], pad_id: int) -> "dict[str, torch.Tensor]":
    """Return a row for each sample, filled up on the right, and the images' tensors."""
    from torch.nn.utils.rnn import pad_sequence

    rows = {"labels": [one.labels for one in encoded]}
    fills = {"input_ids": pad_id, "labels": IGNORED}
    rows |= {name: [one.tokens[name] for one in encoded] for name in encoded[0].tokens}
    padded = {
        name: pad_sequence(values, batch_first=True, padding_value=fills.get(name, 0))
        for name, values in rows.items()
    }
    return padded | join([one.vision for one in encoded])


def boundaries(lengths: Sequence[int]) -> "dict[str, Any]":
    """Return where segments of these lengths begin and end, by upstream's names.

    They are made here, on the host, because a layer that worked them out would wait for the device.
    """
    import torch

    ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    longest = max(lengths)
    of_keys = {"cu_seq_lens_k": ends, "max_length_k": longest}
    return {"cu_seq_lens_q": ends, "max_length_q": longest} | of_keys


def join(vision: "Sequence[dict[str, torch.Tensor]]") -> "dict[str, torch.Tensor]":
    """Return the images' tensors of all samples, one after the other.

    Their second dimension is filled up, where they have more than two.
    """
    return {name: _joined([one[name] for one in vision]) for name in vision[0]}


def repeated(inputs: "dict[str, torch.Tensor]", count: int) -> "dict[str, torch.Tensor]":
    """Return the inputs of one sample so many times, one after the other."""
    import torch

    return {name: torch.cat([value] * count) for name, value in inputs.items()}


def _joined(tensors: "list[torch.Tensor]") -> "torch.Tensor":
    import torch
    from torch.nn.functional import pad as fill

    if tensors[0].ndim > 2:
        width = max(tensor.shape[1] for tensor in tensors)
        tensors = [
            fill(tensor, (0, 0) * (tensor.ndim - 2) + (0, width - tensor.shape[1]))
            for tensor in tensors
        ]
    return torch.cat(tensors)
