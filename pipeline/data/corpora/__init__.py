"""Builders that turn a corpus as its owner distributes it into shards."""
