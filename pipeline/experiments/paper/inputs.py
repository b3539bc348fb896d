"""Where the corpora of a table are, and what is in them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...data import storage
from ...data.captions import read_captions
from ...data.plan import ShardInput, config_hash, resolve_input
from ...data.shards import open_shard
from ...errors import SampleError, UsageError
from ...evaluate.checkpoints import checkpoint_digest
from ...evaluate.config import EvaluateConfig
from ...execution.spec import package_version
from .cells import Facts, Inputs
from .config import PaperConfig

_BLOCK = 1 << 20


def find_inputs(config: PaperConfig, cache: Path) -> Inputs:
    """Read the corpora once; what they hold is remembered in ``cache`` until a shard changes.

    Raises:
        UsageError: a corpus or the checkpoint is not there.
    """
    shards, test = resolve_input(config.input), resolve_input(config.test)
    middle = len(shards) // 2
    halves = {"whole": shards, "first": shards[:middle], "second": shards[middle:], "test": test}
    fitted = config.input if config.fit_input is None else config.fit_input
    halves["fit"] = resolve_input(fitted)
    known = _remembered(cache)
    facts, marks = {}, {}
    for name, part in halves.items():
        mark = config_hash({s.url: [s.size, s.etag] for s in part})
        found = known.get(mark)
        facts[name] = Facts(**found) if found else _facts(part)
        marks[mark] = vars(facts[name])
    storage.write_bytes(str(cache), json.dumps({**known, **marks}, indent=1).encode())
    return Inputs(
        urls={"whole": config.input, "test": config.test, "fit": fitted}
        | {name: _list(halves[name], config) for name in ("first", "second")},
        facts=facts,
        version=package_version(),
        common={"threads": config.threads, "device": torch.device(config.device).type},
        init_sha256=None if config.init is None else checkpoint_digest(config.init),
    )


def _remembered(cache: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(cache.read_bytes()))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(f"{cache} is damaged ({error}); delete it") from error


def _facts(shards: Sequence[ShardInput]) -> Facts:
    digest = hashlib.sha256()
    images = captions = 0
    for shard in shards:
        digest.update(shard.name.encode())
        with storage.open_read(shard.url) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        with open_shard(shard.url) as reader:
            for sample in reader:
                try:
                    captions += len(read_captions(sample, EvaluateConfig.caption_fields))
                    images += 1
                except SampleError:
                    continue
    return Facts(digest.hexdigest(), images, captions)


def _list(shards: Sequence[ShardInput], config: PaperConfig) -> str:
    """Return one URL for some shards of a corpus: they share a folder, their names a brace list."""
    if len(shards) < 2:
        return shards[0].url if shards else config.input
    folder = shards[0].url.rpartition("/")[0]
    names = [storage.base_name(shard.url) for shard in shards]
    if any(shard.url != f"{folder}/{name}" for shard, name in zip(shards, names, strict=True)):
        raise UsageError(f"the shards of {config.input} lie in several folders; use one")
    return f"{folder}/{{{','.join(names)}}}"
