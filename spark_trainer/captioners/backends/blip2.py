"""BLIP-2 (Li et al. 2023, arXiv:2301.12597): one image, over OPT or T5.

OPT continues the prompt, so a question reads `Question: … Answer:`. Without a prompt T5 gives no
useful text.
"""

from functools import partial

from spark_trainer.captioners import network

MODEL_TYPES = ("blip-2",)
PACKAGES = network.PACKAGES
DEFAULT_MODEL = "Salesforce/blip2-opt-2.7b"
PROMPT = ""
SEES_VIDEO = False
NEEDS_GPU = True

load = partial(network.Network, inputs=network.image)
