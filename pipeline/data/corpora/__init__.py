"""Builders: corpora as their owners keep them, to WebDataset shards."""
