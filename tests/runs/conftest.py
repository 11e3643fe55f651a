"""Specs of small runs on a small training set."""

from tests.train.conftest import checkpoint, make, manifest

__all__ = ["checkpoint", "make", "manifest"]  # fixtures
