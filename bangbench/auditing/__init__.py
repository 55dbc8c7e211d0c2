"""Whether a model is robust or its gradients are gone: checks, evidence, verdicts."""
