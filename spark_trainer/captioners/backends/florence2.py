"""Florence-2 (Xiao et al. 2023, arXiv:2311.06242): one image and a task.

The tasks that make captions are `<CAPTION>`, `<DETAILED_CAPTION>` and `<MORE_DETAILED_CAPTION>`.
`microsoft/Florence-2-large` needs remote code; the default is the same weights in the layout of
transformers' own class.
"""

from functools import partial

from spark_trainer.captioners import network

MODEL_TYPES = ("florence2",)
PACKAGES = network.PACKAGES
DEFAULT_MODEL = "florence-community/Florence-2-large"
PROMPT = "<DETAILED_CAPTION>"
SEES_VIDEO = False
NEEDS_GPU = True

load = partial(network.Network, inputs=network.image)
