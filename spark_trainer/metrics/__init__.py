"""Measures of how good a result is, one file for each kind of result."""
