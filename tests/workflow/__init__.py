"""Tests that drive the real Snakemake."""
