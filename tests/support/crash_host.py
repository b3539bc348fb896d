"""Runs commands of the program in forked processes that end themselves at a chosen instant.

Torch is imported once. Each line on stdin is a JSON object:

command: arguments of the program
watch: a folder; operations on files below it are counted (by Python's audit events)
stop: number of the operation before which the process dies; null to live on
half: whether a file that is about to be renamed into its place loses its second half first, which
    is what a process leaves that dies while it writes
output: file for what the command prints
environment: variables to set

Answers, one a line: the process number at once; at its end the exit code.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.scandir", "os.listdir"}
DEAD = 99


def die_at(watch: str, stop: int | None, count_file: str, *, half: bool) -> None:
    """Count the operations below ``watch`` and end this process before number ``stop``."""
    lock = threading.Lock()
    names: list[str] = []
    inside = threading.local()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in OPERATIONS or getattr(inside, "hook", False):
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(watch):
            return
        inside.hook = True
        with lock:
            if len(names) == stop:
                if half and event == "os.rename":
                    os.truncate(path, os.path.getsize(path) // 2)
                os._exit(DEAD)
            names.append(event)
            if stop is None:
                Path(count_file).write_text("\n".join(names))
        inside.hook = False

    sys.addaudithook(hook)


def child(order: dict[str, object]) -> int:
    from unlearnable.jobs.cli import main

    log = os.open(str(order["output"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(order.get("environment") or {})  # type: ignore[arg-type]
    if order.get("watch"):
        stop = order.get("stop")
        assert stop is None or isinstance(stop, int)
        die_at(str(order["watch"]), stop, f"{order['output']}.count", half=bool(order.get("half")))
    return main(order["command"])  # type: ignore[arg-type]


def serve() -> None:
    import unlearnable.pipeline.execution.protect

    assert unlearnable.pipeline.execution.protect
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = child(json.loads(line))
            finally:
                os._exit(code)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
