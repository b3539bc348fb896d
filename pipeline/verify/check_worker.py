"""The worker of `verify`: checks one shard. It knows of no other shard and of no scheduler."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from ..data.plan import Plan
from ..execution.driver.schedule import ShardTask
from .findings import Findings
from .reader_checks import check_as_reader
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
            check = ShardCheck(
                task.output, task.record, setup.plan, setup.rules, name, original, findings
            )
            check.run(pool)
        return findings


@dataclass(frozen=True)
class ReaderSetup:
    """What a worker needs that has no record.

    Attributes:
        fields: JSON fields that hold captions.
        max_pixels: limit of what is decoded.
        max_listed: violations of a shard that are listed.
        threads: threads that decode.
        several: whether samples may hold several pictures.
    """

    fields: tuple[str, ...]
    max_pixels: int
    max_listed: int
    threads: int
    several: bool = False


class ReaderWorker:
    """Checks shards one at a time, knowing of each what the index says."""

    def __init__(self, setup: ReaderSetup) -> None:
        self._setup = setup

    def run(self, task: ShardTask) -> Findings:
        """Check one published shard; ``task`` has its size and as its mark the sha256."""
        setup = self._setup
        findings = Findings(setup.max_listed, task.shard.name)
        with ThreadPoolExecutor(setup.threads, "verify", torch.set_num_threads, (1,)) as pool:
            check_as_reader(
                task.output,
                task.shard,
                pool,
                findings,
                setup.fields,
                setup.max_pixels,
                several=setup.several,
            )
        return findings
