"""Architectures, the `Classifier` wrapper that takes grey levels, and weights in and out."""
