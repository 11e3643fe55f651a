"""Boxes, and tiny checkpoints of the very classes that upstream's large ones have."""

from pathlib import Path

import numpy as np
import torch
import transformers

LABELS = {0: "person", 1: "cup"}
SURE = 4.0  # of its every box the person detector is sure by the logistic function of this: 0.98


def people(
    folder: Path, sure: float = SURE, labels: dict[int, str] = LABELS, size: float = 0.0
) -> Path:
    """An RT-DETR that takes each of its queries for the first label, wherever it looks.

    With a size of 4 its boxes are as large as the picture.
    """
    torch.manual_seed(0)
    config = transformers.RTDetrConfig(
        backbone_config=transformers.RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_in_channels=[16, 24, 32],
        encoder_hidden_dim=16,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        d_model=16,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        decoder_layers=2,
        num_queries=6,
        num_denoising=0,
        id2label=labels,
    )
    model = transformers.RTDetrForObjectDetection(config)
    for layer in model.model.decoder.class_embed:
        torch.nn.init.normal_(layer.weight, std=0.05)
        layer.bias.data = torch.tensor([sure, *[-sure] * (len(labels) - 1)])
    for layer in model.model.decoder.bbox_embed:
        layer.layers[-1].bias.data[2:] = size
    transformers.RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def keypoints(folder: Path, count: int, experts: int = 1) -> Path:
    """A ViTPose of so many keypoints; a ViTPose++ with several experts."""
    torch.manual_seed(count)
    backbone = transformers.VitPoseBackboneConfig(
        image_size=[64, 48],
        patch_size=[16, 16],
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_ratio=2,
        num_experts=experts,
        part_features=8,
        out_indices=[2],
        initializer_range=0.3,
    )
    config = transformers.VitPoseConfig(backbone_config=backbone, num_labels=count)
    model = transformers.VitPoseForPoseEstimation(config)
    torch.nn.init.normal_(model.head.conv.weight, std=0.1)
    size = {"height": 64, "width": 48}
    transformers.VitPoseImageProcessor(size=size).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def masks(folder: Path) -> Path:
    """A SAM 2 of 64 pixels and five blocks."""
    torch.manual_seed(0)
    backbone = transformers.Sam2HieraDetConfig(
        image_size=[64, 64],
        hidden_size=8,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 4],
        window_size_per_stage=[8, 4, 4, 4],
        global_attention_blocks=[3],
    )
    config = transformers.Sam2Config(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=backbone,
            backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
            fpn_hidden_size=16,
        ),
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    model = transformers.Sam2Model(config)
    for weight in model.mask_decoder.parameters():
        weight.data = weight.data * 8  # else the outline is as good as flat
    images = transformers.Sam2ImageProcessor(
        size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16}
    )
    transformers.Sam2Processor(images, target_size=64).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def boxes(*lefts: float) -> np.ndarray:
    """Boxes 100 wide and high, the surest first."""
    return np.array([[left, 50, left + 100, 150] for left in lefts], np.float32).reshape(-1, 4)
