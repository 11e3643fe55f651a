"""From a folder of raw video to a trained video-aware model, in one Snakemake workflow."""

__version__ = "0.1.0"
