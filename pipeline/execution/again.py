"""Whether an input is a protected copy already: protecting twice adds up the changes."""

from collections.abc import Sequence
from itertools import islice

from ..data.captions import read_captions
from ..data.card import protected_by
from ..data.shard_list import ShardInput
from ..data.shards import open_shard
from ..errors import SampleError, ShardError, UsageError
from ..method.vocabulary import reference_words

# Shards, from the first to the last, and samples of each whose captions are looked at.
_SHARDS, _LOOKED_AT = 16, 32


def refuse_protected(
    url: str, shards: Sequence[ShardInput], fields: Sequence[str], *, again: bool
) -> None:
    """Raise UsageError where ``shards``, which ``url`` names, are protected, unless ``again``."""
    why = None if again else _sign(shards, fields)
    if why is not None:
        raise UsageError(
            f"{url} is a protected copy already ({why}): protecting it twice adds up the changes; "
            f"give the originals, or --again if you mean it"
        )


def _sign(shards: Sequence[ShardInput], fields: Sequence[str]) -> str | None:
    """Return what tells that shards are protected: their card, or their captions."""
    step = max(1, -(-(len(shards) - 1) // (_SHARDS - 1)))
    looked_at = [*shards[:-1:step], shards[-1]]
    for folder in dict.fromkeys(shard.url.rpartition("/")[0] for shard in looked_at):
        if (name := protected_by(folder)) is not None:
            return f"its {name} says so"
    for shard in looked_at:
        # A named pipe has no size, and its reader may wait for ever.
        if shard.size == 0:
            continue
        captions = _captions(shard, fields)
        told = sum(map(_has_trigger, captions))
        # Protected samples may stand among others; a single caption may look so by chance.
        if told > 1 or 2 * told > len(captions):
            return f"captions of {shard.name} start with trigger words"
    return None


def _captions(shard: ShardInput, fields: Sequence[str]) -> list[str]:
    """Return captions of the head of a shard, as far as it can be read."""
    found: list[str] = []
    try:
        with open_shard(shard.url) as reader:
            for sample in islice(reader, _LOOKED_AT):
                try:
                    found += read_captions(sample, fields)
                except SampleError:
                    continue
    # Whoever works on the shard tells what is wrong with it.
    except (ShardError, OSError):
        pass
    return found


def _has_trigger(caption: str) -> bool:
    lists = reference_words()
    words = caption.split(maxsplit=len(lists))
    return len(words) > len(lists) and all(
        word in listed for word, listed in zip(words, lists, strict=False)
    )
