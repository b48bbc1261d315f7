"""Typed configuration: slices, loading, fingerprints."""
