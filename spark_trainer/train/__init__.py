"""One training run: its order, its launch, and the only loop."""
