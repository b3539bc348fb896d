"""The one JSON text of a value, which hashes are taken of."""

import json


def canonical_json(value: object) -> str:
    """Return the JSON text of ``value``: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: a number in it is not finite.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
