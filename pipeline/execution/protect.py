"""`protect`: from the request to the committed output."""

import logging
from dataclasses import fields
from typing import Any

from ..data import storage
from ..data.plan import resolve_input
from ..data.record import find_record
from ..errors import UsageError
from ..method.config import MAX_TRIGGER_WORDS, MethodConfig
from ..method.methods import get_method
from ..method.protector import settled
from ..method.surrogate import check_surrogate
from .again import refuse_protected
from .artifact import load_surrogate
from .checks import check_caption_fields, check_device_name, check_least
from .config import ProtectConfig, Request
from .driver.drive import check_running, drive
from .driver.resume import check_places, find_plan
from .driver.slices import take_slice
from .driver.summary import RunSummary
from .estimate import estimate
from .options import part_of
from .spec import RunSpec, WorkerSetup, package_version

log = logging.getLogger(__name__)


def protect(config: ProtectConfig) -> RunSummary:
    """Protect every shard of a corpus, or go on with a run that was interrupted.

    SIGINT and SIGTERM end it with exit code 130 or 143 in the summary; the same call resumes.

    Returns:
        what was done, with the exit code of the run.

    Raises:
        UsageError: the request cannot be carried out as written.
        StorageFullError: no space is left; nothing half-written was committed.
    """
    config = _check(config)
    shards = resolve_input(config.input)
    check_places(shards, config.output, source=config.input)
    if config.workers > len(shards):
        log.warning(
            "%d workers, but %d shards: a shard has one worker, the others stand idle; make "
            "smaller shards (`unlearnable data folder --samples-per-shard`)",
            config.workers,
            len(shards),
        )
    record = find_record(config.output, config.record)
    check_places(shards, record, "record", config.input)
    spec = make_spec(config)
    plan, new = find_plan(spec.as_dict(), shards, config.output, record, _request(config))
    if new:
        refuse_protected(config.input, shards, config.caption_fields, again=config.again)
    setup = WorkerSetup(spec, _surrogate_url(config), config.io_threads, config.device)
    if config.dry_run:
        return estimate(config, setup, take_slice(plan, config.slice), shards)
    return drive(config, setup, plan, shards, new=new)


def _check(config: ProtectConfig) -> ProtectConfig:
    """Refuse what no surrogate or input could make right; name the executor."""
    k = config.trigger_words
    if k is not None and not 1 <= k <= MAX_TRIGGER_WORDS:
        raise UsageError(f"trigger-words is {k}; it must be 1..{MAX_TRIGGER_WORDS}")
    check_least(config, 1, "torch_threads", "max_pixels")
    check_caption_fields(config.caption_fields)
    check_device_name(config.device)
    if config.batch_size < 2:
        raise UsageError(f"batch-size is {config.batch_size}; a contrastive loss needs at least 2")
    if config.surrogate is None and get_method(config.method).needs_surrogate:
        raise UsageError(
            f"method {config.method} needs --surrogate; write one with `unlearnable fit`"
        )
    return check_running(config)


def _surrogate_url(config: ProtectConfig) -> str | None:
    return config.surrogate if get_method(config.method).needs_surrogate else None


def _request(config: ProtectConfig) -> dict[str, Any]:
    """Return what a later `retry` needs to know beside the specification."""
    values = {item.name: vars(config)[item.name] for item in fields(Request)}
    # As a plan gives them back.
    request = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
    url = _surrogate_url(config)
    path = storage.local_path(url) if url is not None else None
    return {**request, "surrogate": url if path is None else str(path)}


def make_spec(config: ProtectConfig) -> RunSpec:
    """Check the method's settings and the surrogate, and gather what determines the bytes.

    Raises:
        UsageError: settings out of range, or no such surrogate, or another trigger length.
    """
    mem = part_of(MethodConfig, config)
    mem.validate()
    surrogate, sha256, trigger_words, strength, floor = None, "", 0, "", 1.0
    url = _surrogate_url(config)
    if url is not None:
        surrogate, sha256 = load_surrogate(url)
        check_surrogate(surrogate, mem.method)
        trigger_words = surrogate.trigger_words
        strength, floor = surrogate.strength, surrogate.floor
        if config.trigger_words not in (None, trigger_words):
            raise UsageError(
                f"trigger-words is {config.trigger_words}, but surrogate {url} was fitted with "
                f"{trigger_words}; leave the option out, or fit another with that many"
            )
    return RunSpec(
        mem=settled(mem, surrogate),
        batch_size=config.batch_size,
        trigger_words=0 if mem.part == "image" else trigger_words,
        surrogate_sha256=sha256,
        seed=config.seed,
        image_format=config.image_format,
        caption_fields=config.caption_fields,
        max_pixels=config.max_pixels,
        torch_threads=config.torch_threads,
        version=package_version(),
        drop_location=config.drop_location,
        reserve=config.reserve,
        file_license=config.license if config.reserve else "",
        images=config.images,
        strength=strength,
        floor=floor,
        losses=config.losses,
    )
