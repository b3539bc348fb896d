"""Experiments that fill tables: the bench of speed and the paper's."""
