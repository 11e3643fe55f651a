"""What scores the answers of a model that learns from rewards: one module for each reward."""
