"""Limits of what is read from untrusted input, where no option sets another."""

MAX_PIXELS = 64_000_000
"""Pixels of an image."""

LONGEST = 8
"""Longer sides of an image, in shorter ones, that are resized for a square."""
