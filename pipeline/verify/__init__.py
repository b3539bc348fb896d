"""Checks of a published copy: every promise, recomputed from its files."""
