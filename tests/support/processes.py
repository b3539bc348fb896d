"""What the kernel tells of the processes below one: names, processor time, memory, open files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

# For scripts in processes of their own. ru_maxrss would do as a measure, were it not handed on from
# the process that started this one.
PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
"""


class Process(NamedTuple):
    """A process as it is now.

    ``born`` tells it from a later one of the same number, ``cpu`` is in seconds, ``memory``
    (resident) in MB, ``files`` counts open descriptors.
    """

    pid: int
    born: int
    name: str
    cpu: float
    memory: float
    files: int


def below(root: int) -> list[Process]:
    """The processes that descend from ``root``."""
    fields: dict[int, list[str]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields[int(folder.name)] = (folder / "stat").read_text().rsplit(")", 1)[1].split()
    known, size = {root}, 0
    while size != len(known):
        size = len(known)
        known |= {pid for pid, stat in fields.items() if int(stat[1]) in known}
    found = []
    for pid in known - {root}:
        with contextlib.suppress(OSError, KeyError):
            found.append(_process(pid, fields[pid]))
    return found


def memory() -> tuple[int, int]:
    """Bytes of memory that this machine has, and that are available."""
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(facts[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return total << 10, available << 10


def _process(pid: int, stat: list[str]) -> Process:
    folder = Path(f"/proc/{pid}")
    name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    cpu = (int(stat[11]) + int(stat[12])) / _TICKS
    memory = int(stat[21]) * _PAGE / 1e6
    return Process(pid, int(stat[19]), name, cpu, memory, len(os.listdir(folder / "fd")))
