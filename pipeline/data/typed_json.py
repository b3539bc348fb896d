"""JSON of unknown origin to the dataclass that it should describe."""

import functools
import json
import types
from collections.abc import Collection
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

# Beyond this nothing that is counted or timed here has a meaning, and formatting it fails.
_LARGEST = 1 << 62


def parse(cls: type[T], data: bytes, dropped: Collection[str] = ()) -> T:
    """Return the ``cls``, a dataclass of plain fields, that the JSON object ``data`` describes.

    Args:
        cls: the dataclass.
        data: JSON of unknown origin.
        dropped: fields that are passed over.

    Raises:
        ValueError: not a JSON object, fields missing or unknown, values of other types, numbers
            that are not finite or absurd.
    """
    try:
        values = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    target: Any = cls
    hints = _hints(target)
    for name in dropped:
        values.pop(name, None)
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            raise ValueError(f"{name} is {str(value)[:80]!r}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin is dict:
        return isinstance(value, dict) and all(_fits(v, arguments[1]) for v in value.values())
    if hint in (int, float):
        kinds = (int, float) if hint is float else (int,)
        # False for what is no number, too.
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < _LARGEST
    return isinstance(value, hint)
