"""Losses and their noise levels, without model names."""
