"""The key of a surrogate: secret bytes that everything about its patterns is drawn from.

A draw is a keyed hash of what it is for, so that it is equal on every machine and tells nothing of
any other draw.

Source: BLAKE2b as a keyed pseudo-random function, RFC 7693.
"""

import hashlib
import json
import secrets

KEY_BYTES = 32
_BLOCK = 64
_WORD = 8


def new_key() -> bytes:
    """Return a key that nobody can guess."""
    return secrets.token_bytes(KEY_BYTES)


class Draws:
    """A stream of draws from a key, one for each name.

    Args:
        key: 1 to 64 bytes.
        name: what is drawn, as JSON values; another name gives an independent stream.
    """

    def __init__(self, key: bytes, *name: str | int) -> None:
        self._hash = hashlib.blake2b(json.dumps(name).encode(), key=key, digest_size=_BLOCK)
        self._block, self._used, self._count = b"", _BLOCK, 0

    def share(self) -> float:
        """Return a number from [0, 1), uniform in steps of 2**-53."""
        if self._used == _BLOCK:
            block = self._hash.copy()
            block.update(self._count.to_bytes(_WORD, "big"))
            self._block, self._used, self._count = block.digest(), 0, self._count + 1
        word = self._block[self._used : self._used + _WORD]
        self._used += _WORD
        return (int.from_bytes(word, "big") >> 11) / (1 << 53)

    def below(self, count: int) -> int:
        """Return a whole number from 0 to ``count`` - 1."""
        return int(self.share() * count)

    def between(self, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``."""
        return low + (high - low) * self.share()

    def order(self, count: int) -> list[int]:
        """Return the numbers from 0 to ``count`` - 1 in a drawn order (Fisher and Yates 1938)."""
        found = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.below(last + 1)
            found[last], found[other] = found[other], found[last]
        return found

    def spread(self, count: int) -> list[float]:
        """Return ``count`` numbers from [0, 1) in a drawn order, no two of them close together.

        They lie on a circle, in drawn parts of equal size, each in the middle half of its part.
        """
        start = self.share()
        return [
            (start + (part + self.between(0.25, 0.75)) / count) % 1.0 for part in self.order(count)
        ]
