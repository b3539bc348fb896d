"""What determines the bytes of a protected copy, and the hash that names it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from ..data.canonical_json import canonical_json
from ..data.plan import config_hash
from ..data.xmp import Edits
from ..method.config import MethodConfig
from ..method.methods import CODE, get_method
from ..seeds import derive_seed
from .options import LossChoice

# One batch in so many: two forward passes of it cost the run less than 5 %.
_LOSS_SAMPLE = 32


def package_version() -> str:
    """Return the version of this package."""
    from ... import __version__

    return __version__


@dataclass(frozen=True)
class RunSpec:
    """Everything but the input that the published bytes depend on.

    Neither the executor nor the number of workers is here: the output may not depend on them.

    Attributes:
        mem: the method and its settings, settled.
        batch_size: samples optimised together.
        trigger_words: words of a trigger; 0 when the method sets none.
        surrogate_sha256: of the surrogate artifact; empty when the method needs none.
        seed: seed of the run.
        image_format: ``png``, ``webp``, ``jpeg`` or ``same``.
        caption_fields: fields of ``.json`` members that hold captions.
        max_pixels: larger images are quarantined.
        torch_threads: threads of tensor operations; floating point sums depend on it.
        version: version of this package.
        drop_location: whether location and device are taken out of metadata.
        images: ``one`` a sample, or ``all`` of them.
        reserve: whether files state that data mining is prohibited.
        file_license: licence that the files state then; empty for none.
        strength: name of the patterns' strength; empty where there are none.
        floor: share of epsilon that smooth ground gets; 1 where every pixel gets all of it.
        losses: batches whose losses are measured for reports.
    """

    mem: MethodConfig
    batch_size: int
    trigger_words: int
    surrogate_sha256: str
    seed: int
    image_format: str
    caption_fields: tuple[str, ...]
    max_pixels: int
    torch_threads: int
    version: str
    drop_location: bool = False
    reserve: bool = False
    file_license: str = ""
    images: str = "one"
    strength: str = ""
    floor: float = 1.0
    losses: LossChoice = "sample"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the specification that :meth:`as_dict` gave.

        Raises:
            KeyError, TypeError: it is none, or one of another release.
        """
        fields = dict(values)
        mem = dict(fields["mem"])
        if mem["method"] == CODE:
            mem["method"] = "mem"
        fields["mem"] = MethodConfig(**mem | {"views": tuple(mem.get("views", ()))})
        fields["caption_fields"] = tuple(fields["caption_fields"])
        return cls(**fields)

    def as_dict(self) -> dict[str, Any]:
        """Return the specification as plain JSON values, with the method's published name."""
        result: dict[str, Any] = json.loads(canonical_json(asdict(self)))
        result["mem"]["method"] = get_method(self.mem.method).published_name(self.mem)
        return result

    def measures(self, shard: str, batch: int) -> bool:
        """Whether the losses of batch number ``batch`` of a shard are measured."""
        if self.losses != "sample":
            return self.losses == "all"
        return derive_seed(self.seed, "losses", shard, batch) % _LOSS_SAMPLE == 0

    @property
    def edits(self) -> Edits:
        """What is changed in the metadata of pictures."""
        return Edits(self.drop_location, self.reserve, self.file_license)

    @property
    def hash(self) -> str:
        """The sha256 of the canonical JSON of the specification."""
        return config_hash(self.as_dict())


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker process needs to make itself ready; small, it travels to every actor.

    Attributes:
        spec: what is to be computed.
        surrogate: URL of the artifact folder, None when the method needs none.
        io_threads: threads that decode and encode.
        device: torch device, or ``auto``: cuda where there is one.
    """

    spec: RunSpec
    surrogate: str | None
    io_threads: int
    device: str
