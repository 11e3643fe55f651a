"""The maths of training, without model names."""
