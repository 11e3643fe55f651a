"""Keypoints of COCO-WholeBody and COCO become those that the skeleton is drawn of."""

import numpy as np

from spark_trainer.detectors import BODY, POINTS, wholebody

COCO = (
    *("nose", "left eye", "right eye", "left ear", "right ear", "left shoulder"),
    *("right shoulder", "left elbow", "right elbow", "left wrist", "right wrist", "left hip"),
    *("right hip", "left knee", "right knee", "left ankle", "right ankle"),
)
FEET = (
    *("left big toe", "left small toe", "left heel"),
    *("right big toe", "right small toe", "right heel"),
)


def test_wholebody_is_regrouped_by_name() -> None:
    points = np.random.default_rng(0).random((133, 3), np.float32)
    at = dict(zip((*COCO, *FEET), points[:23], strict=True))
    shoulders = np.stack([at["left shoulder"], at["right shoulder"]])
    at["neck"] = np.append(shoulders[:, :2].mean(axis=0), shoulders[:, 2].min())
    for side in ("left", "right"):
        at[f"{side} toe"] = (at[f"{side} big toe"] + at[f"{side} small toe"]) / 2
    parts = wholebody.regroup(points)
    np.testing.assert_allclose(parts["body"], [at[name] for name in BODY], rtol=1e-6)
    assert (parts["face"] == points[23:91]).all()
    assert (parts["left_hand"] == points[91:112]).all()
    assert (parts["right_hand"] == points[112:]).all()
    assert {name: len(part) for name, part in parts.items()} == POINTS


def test_of_cocos_joints_only_the_body_is_known() -> None:
    points = np.random.default_rng(0).random((133, 3), np.float32)
    whole, parts = wholebody.regroup(points), wholebody.regroup(points[:17])
    assert set(parts) == {"body"}
    assert (parts["body"][:18] == whole["body"][:18]).all()
    assert not parts["body"][18:].any(), "no toes"
