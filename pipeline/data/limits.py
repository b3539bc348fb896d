"""Limits of what is read from untrusted input, where no option sets another."""

from __future__ import annotations

MAX_PIXELS = 64_000_000
"""Pixels of an image."""
