"""Training methods: one file each, reached by name through `registry`."""
