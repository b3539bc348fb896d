"""Measured figures: one row a figure, with the machine and the versions it was measured on."""

import csv
import io
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from statistics import median

import torch


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        section: part of the bench.
        case: what was measured.
        metric: which property of it.
        value: the figure.
        unit: of ``value``; ``ratio``, ``share`` (1 is everything) or ``count`` where it has none.
    """

    section: str
    case: str
    metric: str
    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.section:8} {self.case:34} {self.metric:34} {self.value:>12.6g} {self.unit}"


@dataclass(frozen=True)
class Machine:
    """Where and when a bench ran."""

    time: str
    device: str
    threads: int
    cpus: int
    python: str
    torch: str
    triton: str
    version: str


def here(device: str) -> Machine:
    """Describe this machine; ``device`` is the torch device that was measured."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()
    return Machine(
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        device=name,
        threads=torch.get_num_threads(),
        cpus=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        torch=str(torch.__version__),
        triton=_version("triton"),
        version=_own_version(),
    )


def append(path: str, figures: Iterable[Figure], machine: Machine) -> None:
    """Add figures to the CSV file at ``path``, which is begun with a heading where it is new."""
    names = [item.name for item in (*fields(Machine), *fields(Figure))]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    if not Path(path).exists():
        writer.writeheader()
    for figure in figures:
        row = {**asdict(machine), **asdict(figure), "value": f"{figure.value:.6g}"}
        writer.writerow(row)
    with Path(path).open("a", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())


def read_latest(path: str) -> tuple[list[Figure], str]:
    """Return the last figure of every metric in a CSV file, and the devices they came from."""
    latest: dict[tuple[str, str, str], tuple[Figure, str]] = {}
    with Path(path).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["section"], row["case"], row["metric"])
            latest[key] = Figure(*key, float(row["value"]), row["unit"]), row["device"]
    devices = sorted({device for _, device in latest.values()})
    return [figure for figure, _ in latest.values()], ", ".join(devices)


def clock(device: str) -> float:
    """Return seconds that only differences have a meaning of.

    On a CPU the processor time of this process: others may compute beside it. On a GPU the time on
    the wall once the device has done its work.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def seconds(function: Callable[[], object], device: str, *, least: float = 0.2) -> float:
    """Return the median time of a call, at least three calls and ``least`` seconds long.

    By `clock`; on a GPU Triton's own timer, which empties the cache before each call.
    """
    if device.startswith("cuda"):
        from triton.testing import do_bench

        return float(do_bench(function, return_mode="median")) / 1e3
    function()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < least:
        taken.append(spent(function, device))
    return median(taken)


def wall(function: Callable[[], object], device: str) -> float:
    """Return the time of one call on the wall, the device's work included."""
    started = time.perf_counter()
    function()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def spent(function: Callable[[], object], device: str) -> float:
    """Return the time of one call by `clock`."""
    started = clock(device)
    function()
    return clock(device) - started


def side_by_side(
    functions: Sequence[Callable[[], object]], device: str, rounds: int
) -> list[float]:
    """Return the median time of each function, all of them called in turn ``rounds`` times.

    What changes slowly on a machine (heat, neighbours) then meets them all alike.
    """
    taken = [[spent(function, device) for function in functions] for _ in range(rounds)]
    return [median(column) for column in zip(*taken, strict=True)]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _own_version() -> str:
    from .... import __version__

    return __version__
