"""Whole manifests, written for tests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from unlearnable.pipeline.data.manifest import ManifestRow, ManifestWriter


def write_manifest(
    path: str | os.PathLike[str], rows: Iterable[ManifestRow], metadata: Mapping[str, str]
) -> tuple[str, int]:
    """Write all ``rows`` to one manifest; return its (sha256, size in bytes)."""
    with ManifestWriter(path, metadata) as writer:
        for row in rows:
            writer.write(row)
        return writer.close()
