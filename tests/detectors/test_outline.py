"""An outline is as large as it was asked to be."""

import numpy as np
from PIL import Image

from spark_trainer.detectors import POINTS, Person, outline


def test_a_mask_grows_to_every_side() -> None:
    mask = np.zeros((9, 12), bool)
    mask[4, 0] = mask[4, 8] = True
    expected = np.zeros((9, 12), bool)
    expected[2:7, :3] = expected[2:7, 6:11] = True
    assert (outline.grown(mask, 2) == expected).all()
    assert (outline.grown(mask, 0) == mask).all()


def test_an_outline_is_what_is_sure_enough() -> None:
    mask = np.array([[0.2, 0.5, 0.9, 0.1, 0.0]], np.float32)
    parts = {name: np.zeros((count, 3), np.float32) for name, count in POINTS.items()}
    drawn = outline.draw(Person(**parts, mask=mask), (5, 1), threshold=0.5, growth_px=0)
    assert np.asarray(drawn).tolist() == [[0, 255, 255, 0, 0]]
    wider = outline.draw(Person(**parts, mask=mask), (5, 1), threshold=0.5, growth_px=1)
    assert np.asarray(wider).tolist() == [[255, 255, 255, 255, 0]]


def test_nobody_has_no_outline() -> None:
    assert outline.draw(None, (3, 2), 0.5, 4).tobytes() == Image.new("L", (3, 2)).tobytes()
