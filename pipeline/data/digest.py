"""Digests of files, read piece by piece."""

import hashlib

from . import storage


def sha256_of(url: str) -> str:
    """Return the sha256 of the file at ``url`` as hexadecimal text. Raises OSError."""
    digest = hashlib.sha256()
    with storage.open_read(url) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
