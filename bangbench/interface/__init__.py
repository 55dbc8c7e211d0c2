"""The bench from Python: what `import bangbench` offers. Nothing here prints, and no call leaves a trace in a model."""
