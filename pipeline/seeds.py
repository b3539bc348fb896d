"""Seeds that depend on what is computed, never on who computes it or when."""

import hashlib


def derive_seed(*parts: object) -> int:
    """Return a seed in [0, 2**63) that is a pure function of ``parts`` (their ``str``)."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
