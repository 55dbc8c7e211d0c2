"""The noise evolution: how robustness to Gaussian noise changes while a model is trained."""
