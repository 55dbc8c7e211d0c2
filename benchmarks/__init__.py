"""Benchmarks: bangbench and a peer side by side in one process, reported as a ratio."""
