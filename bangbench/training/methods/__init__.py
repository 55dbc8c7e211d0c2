"""Training methods: one file each, reached by name through the registry in `base`."""
