"""bangbench: measure how robust image classifiers are, and whether their gradients are still there."""

__version__ = "0.1.0"
