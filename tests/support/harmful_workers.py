"""Workers that a child process can import: one that dies and one that hangs on its shard."""

from __future__ import annotations

import os
import signal
import time

from unlearnable.pipeline.data.ledger import LedgerRecord
from unlearnable.pipeline.execution.driver.schedule import ShardTask


class HarmfulWorker:
    """Commits every shard but ``poison``, which kills the process, and ``hang``, without end."""

    def run(self, task: ShardTask) -> LedgerRecord:
        if task.shard.name == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if task.shard.name == "hang":
            time.sleep(10_000)
        return LedgerRecord(task.shard.name, "committed", "c", attempts=task.attempt)
