"""`restore`: the protected shards again, with the triggers stripped from their captions."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from ..data import storage
from ..data.captions import strip_trigger
from ..data.ledger import SUCCESS_NAME, LedgerRecord, Records, record_url, write_record
from ..data.manifest import ManifestRow, manifest_url, open_manifest
from ..data.plan import Plan, ShardInput, ShardList, read_plan
from ..data.record import find_record, no_run
from ..data.shards import Sample, ShardReader, ShardWriter, open_shard
from ..errors import SampleError, ShardError, ViolationError
from .config import RestoreConfig
from .driver.drive import gather
from .driver.lease import lease_output
from .driver.resume import begin, check_places, committed_records, find_plan
from .driver.schedule import ShardTask, TaskQueue, failed_by
from .driver.stop import Interrupted, StopFlag, stop_on_signals
from .driver.summary import RunSummary, summarise
from .executors.local import run_local
from .worker.scratch import scratch_folder


class RestoreWorker:
    """Strips the triggers of one shard and commits the result.

    Args:
        record: URL of the record of the protected output.
        plan: its plan.
        ledger: its committed records.
        config_hash: names the restored copy.
    """

    def __init__(
        self, record: str, plan: Plan, ledger: Mapping[str, LedgerRecord], config_hash: str
    ) -> None:
        self._record = record
        self._fields: tuple[str, ...] = tuple(plan.config["caption_fields"])
        self._ledger = ledger
        self._hash = config_hash

    def run(self, task: ShardTask) -> LedgerRecord:
        """Restore and commit one shard; the ledger record goes last, as in `protect`."""
        started = time.time()
        try:
            record = self._ledger.get(task.shard.name)
            if record is None:
                raise ShardError(f"{task.shard.url}: not committed in {self._record}")
            with scratch_folder() as folder:
                path = folder / "shard.tar"
                restored = self._transform(task.shard, record, str(path))
                storage.put_file(path, storage.join(task.output, f"{task.shard.name}.tar"))
        except ShardError as error:
            return failed_by(error, task, self._hash)
        now = time.time()
        restored = replace(
            restored,
            attempts=task.attempt,
            timings={"started": started, "finished": now, "seconds": now - started},
        )
        write_record(task.record, restored)
        return restored

    def _transform(self, shard: ShardInput, record: LedgerRecord, path: str) -> LedgerRecord:
        with (
            self._rows(record) as rows,
            open_shard(shard.url, folder=Path(path).parent) as reader,
            ShardWriter(path) as writer,
        ):
            count = 0
            for sample in self._stripped(reader, rows, shard):
                writer.write(sample)
                count += 1
            if reader.sha256 != record.shard_sha256 or next(rows, None) is not None:
                raise _changed(shard.url)
            sha256, size = writer.close()
        return LedgerRecord(
            shard=shard.name,
            status="committed",
            config_hash=self._hash,
            samples=count,
            protected=count,
            shard_sha256=sha256,
            shard_size=size,
            input={"url": shard.url, "size": reader.size, "sha256": reader.sha256},
        )

    @contextmanager
    def _rows(self, record: LedgerRecord) -> Iterator[Iterator[ManifestRow]]:
        """Open the manifest; yields the rows of the published samples, in order."""
        url = manifest_url(self._record, record.shard)
        try:
            with open_manifest(url) as manifest:
                if manifest.sha256 != record.manifest_sha256:
                    raise ShardError(f"{url}: not the manifest that was committed; run verify")
                yield (row for row in manifest if row.status != "quarantined")
        except (FileNotFoundError, ViolationError) as error:
            raise ShardError(f"{url}: {error}") from error

    def _stripped(
        self, reader: ShardReader, rows: Iterator[ManifestRow], shard: ShardInput
    ) -> Iterator[Sample]:
        for sample in reader:
            row = next(rows, None)
            if row is None or row.key != sample.key:
                raise _changed(shard.url)
            try:
                sample.check()
                members = strip_trigger(sample.members, row.trigger_text or "", self._fields)
            except SampleError as error:
                raise ShardError(f"{shard.url}: {sample.key}: {error}; run verify") from error
            yield replace(sample, members=members)


def _changed(url: str) -> ShardError:
    return ShardError(f"{url}: not the shard that was committed; run verify")


def restore(config: RestoreConfig) -> RunSummary:
    """Write the shards of ``config.output`` to ``config.destination`` without triggers.

    Captions come back byte for byte; images stay protected. Run it again to go on after an
    interruption.

    Raises:
        UsageError: no run in the output, or a destination that is in use or inside it.
    """
    started = time.monotonic()
    kept = find_record(config.output, config.record)
    source = read_plan(kept)
    if source is None:
        raise no_run(config.output, kept)
    ledger = committed_records(source, kept)
    shards = ShardList.of(
        ShardInput(s.name, storage.join(config.output, f"{s.name}.tar")) for s in source.shards
    )
    destination = config.destination
    check_places(shards, destination)
    record = find_record(destination)
    settings = {"restored_from": source.config_hash, "version": source.version}
    plan, new = find_plan(settings, shards, destination, record)
    records = Records()
    exit_code = 0
    with stop_on_signals() as stop:
        try:
            with lease_output(record, plan.config_hash, stop, join=False) as lease:
                if new:
                    plan, new = find_plan(settings, shards, destination, record)
                records = begin(plan, shards, destination, record, new=new)
                _drop_outdated(records, ledger, destination, record)
                lease.hold()
                worker = RestoreWorker(kept, source, ledger, plan.config_hash)
                _run(worker, plan, destination, record, records, stop)
        except Interrupted as interruption:
            exit_code = interruption.exit_code
    seconds = time.monotonic() - started
    summary = summarise(destination, record, plan, records, seconds=seconds, exit_code=exit_code)
    return replace(summary, restored=True)


def _drop_outdated(
    records: Records, ledger: Mapping[str, LedgerRecord], destination: str, record: str
) -> None:
    """Take back what was restored from shards that `retry` has made anew since."""
    outdated = [
        name
        for name, one in records.items()
        if name not in ledger or one.input.get("sha256") != ledger[name].shard_sha256
    ]
    if outdated:
        storage.remove(storage.join(destination, SUCCESS_NAME))
    for name in outdated:
        storage.remove(record_url(record, name))
        del records[name]


def _run(
    worker: RestoreWorker,
    plan: Plan,
    destination: str,
    record: str,
    records: Records,
    stop: StopFlag,
) -> None:
    """Restore what waits, and mark a complete copy."""
    waiting = [shard for shard in plan.shards if shard.name not in records]
    queue = TaskQueue(waiting, destination, record, config_hash=plan.config_hash)
    with closing(run_local(worker, queue, stop)) as finished:
        gather(record, finished, len(plan.shards), records)
    if not records.failed:
        mark = storage.join(destination, SUCCESS_NAME)
        storage.write_bytes(mark, b"restored\n")
