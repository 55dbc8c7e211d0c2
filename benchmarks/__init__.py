"""Benchmarks: bangbench and its peers side by side in one process, reported as ratios. `python -m benchmarks`."""
