"""The worker of `verify`: checks one shard. It knows of no other shard and of no scheduler."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from ..data.plan import Plan
from ..execution.driver.schedule import ShardTask
from .findings import Findings
from .sample_checks import Rules
from .shard_checks import ShardCheck


@dataclass(frozen=True)
class CheckSetup:
    """What a worker needs to make itself ready; small, it travels to every actor.

    Attributes:
        plan: the plan of the copy, its list of shards left out.
        rules: what the run promised.
        max_listed: violations of a shard that are listed.
        threads: threads that decode and compare.
    """

    plan: Plan
    rules: Rules
    max_listed: int
    threads: int


class CheckWorker:
    """Checks shards one at a time."""

    def __init__(self, setup: CheckSetup) -> None:
        self._setup = setup

    def run(self, task: ShardTask) -> Findings:
        """Check one published shard; the URL of ``task`` is its original's, empty for none."""
        setup, name = self._setup, task.shard.name
        findings = Findings(setup.max_listed, name)
        original = task.shard.url or None
        with ThreadPoolExecutor(setup.threads, "verify", torch.set_num_threads, (1,)) as pool:
            ShardCheck(task.output, setup.plan, setup.rules, name, original, findings).run(pool)
        return findings
