"""InternVL (Chen et al. 2023, arXiv:2312.14238): an image in tiles, or frames as a video.

`OpenGVLab/InternVL-Chat-V1-5` needs remote code; the default is a successor in the layout of
transformers' own class, as all are whose names end in `-hf`.
"""

from functools import partial

from spark_trainer.captioners import network

MODEL_TYPES = ("internvl",)
PACKAGES = network.PACKAGES
DEFAULT_MODEL = "OpenGVLab/InternVL3-8B-hf"
PROMPT = "Describe the video in one or two sentences."
SEES_VIDEO = True
NEEDS_GPU = True

load = partial(network.Network, inputs=network.conversation)
