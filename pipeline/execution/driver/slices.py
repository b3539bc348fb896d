"""One slice of a plan: the shards of one task of an array, which need not ask the other tasks."""

import re
from dataclasses import replace

from ...data.plan import Plan
from ...errors import UsageError


def parse_slice(text: str) -> tuple[int, int]:
    """Return the number of a slice, from 0 on, and how many slices there are.

    Raises:
        UsageError: ``text`` is not I/N with I from 0 to N - 1.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = map(int, found.groups()) if found else (0, 0)
    if index >= count:
        raise UsageError(f"slice is {text!r}; give I/N, where I is one of 0 to N-1: 0/4, ..., 3/4")
    return index, count


def take_slice(plan: Plan, text: str | None) -> Plan:
    """Return ``plan`` with every N-th of its shards only, from the I-th on; all when unset.

    Neighbours go to different slices: sizes often follow the order of names.
    """
    if text is None:
        return plan
    index, count = parse_slice(text)
    return replace(plan, shards=plan.shards[index::count])
