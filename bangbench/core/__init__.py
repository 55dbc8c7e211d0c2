"""Errors, registry, seeds, device choice, provenance: what every other package stands on."""
