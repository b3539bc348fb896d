"""Shards, images, captions, manifests, ledger and storage."""
