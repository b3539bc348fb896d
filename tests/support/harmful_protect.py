"""The program, with workers that do harm on some shards; the others are really protected.

The first argument says which, as JSON: the name of a shard, or ``*`` for all others, and one of

- ``poison``: the process kills itself
- ``hang``: nothing happens any more
- ``break``: the optimiser raises an error in the middle of the shard
- ``slow``: it takes two seconds longer; ``slow 9``: nine
- ``leak``: memory is taken until the process is killed for it; where the variable LEAK_GROUP names
  a control group of this machine, the process enters that first

The other arguments are those of the program.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from pathlib import Path

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.ledger import LedgerRecord
from unlearnable.pipeline.execution import protect as run
from unlearnable.pipeline.execution.driver.schedule import ShardTask
from unlearnable.pipeline.execution.spec import WorkerSetup
from unlearnable.pipeline.execution.worker.shard_worker import make_worker


def break_down(*_: object) -> None:
    """Stand in for an optimiser with a defect."""
    raise ZeroDivisionError("the optimiser broke down")


class Harmful:
    """A worker that does what ``harm`` says at each shard, and its work at the others."""

    def __init__(self, setup: WorkerSetup, harm: dict[str, str], group: str) -> None:
        self._worker, self._harm, self._group = make_worker(setup), harm, group

    @property
    def samples_done(self) -> int:
        return self._worker.samples_done

    def run(self, task: ShardTask) -> LedgerRecord:
        match self._harm.get(task.shard.name, self._harm.get("*", "")).split():
            case ["poison"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["hang"]:
                time.sleep(100_000)
            case ["break"]:
                self._worker._protect = break_down  # type: ignore[assignment]
            case ["slow", *seconds]:
                time.sleep(float(seconds[0]) if seconds else 2)
            case ["leak"]:
                if self._group:
                    Path(self._group, "cgroup.procs").write_text(str(os.getpid()))
                taken = []
                while True:
                    taken.append(bytearray(os.urandom(1 << 16)) * (1 << 10))
                    time.sleep(0.02)
        return self._worker.run(task)


if __name__ == "__main__":
    harm, group = json.loads(sys.argv[1]), os.environ.get("LEAK_GROUP", "")
    make = functools.partial(Harmful, harm=harm, group=group)
    run.drive = functools.partial(run.drive, make=make)  # type: ignore[assignment]
    sys.exit(main(sys.argv[2:]))
