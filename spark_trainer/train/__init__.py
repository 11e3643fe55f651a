"""One training run: its launch, and the only loop."""
