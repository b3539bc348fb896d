"""What a copy of photographs costs: JPEG files of 224 and 1024 pixels, made on the spot."""

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ....kernels.planes import take_apart
from ...data.corpora.openmoji import list_emoji, rasterise
from ...data.images import decode, encode, fit_square
from ...data.ledger import LedgerRecord, read_ledger
from ...data.record import find_record
from ...data.shards import Member, Sample, open_shard, write_shard
from ...execution.artifact import save_surrogate
from ...execution.config import ProtectConfig
from ...execution.protect import protect
from ...execution.worker.shard_worker import fixed_threads
from ...method.config import FitConfig, MethodConfig
from ...method.models import model_spec
from ...method.protector import BatchProtector
from ...method.surrogate import Surrogate
from .method import Corpus, bare_passes, untrained
from .record import Figure

_STEPS = 8
_THREADS = (1, 2, 4)
_FORMATS = ("same", "png", "webp")
# Side of the pictures, and how many of them.
_SIDES = {224: 256, 1024: 32}
_GRAIN = 6.0
_QUALITY = 80


def make_photographs(count: int, side: int, seed: int = 0) -> Iterator[Sample]:
    """Yield samples of a JPEG of ``side`` x ``side`` pixels and a caption.

    A picture is a drawing over a gradient with the grain of a film: edges, smooth ground and noise,
    as a photograph has them. Drawings are those of OpenMoji.

    Raises:
        UsageError: the extra ``demo`` is not installed.
    """
    emoji = list_emoji()
    rng = np.random.default_rng([seed, side])
    ramp = np.linspace(0, 1, side)[:, None, None]
    for row in range(count):
        item = emoji[int(rng.integers(len(emoji)))]
        corners = rng.uniform(20, 235, (2, 2, 3))
        left, right = (ramp * (1 - k) + ramp[::-1] * k for k in rng.uniform(0, 1, 2))
        ground = left * corners[0, 0] + (1 - left) * corners[0, 1]
        other = right * corners[1, 0] + (1 - right) * corners[1, 1]
        across = ramp.reshape(1, side, 1)
        pixels = ground * across + other * (1 - across)
        drawn = rasterise(item.path, side).astype(np.float64)
        share = drawn[..., 3:] / 255
        pixels = pixels * (1 - share) + drawn[..., :3] * share
        pixels += rng.normal(0, _GRAIN, pixels.shape)
        key, file = f"{row:06d}", io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
        text = f"a picture of {item.caption}, number {row}".encode()
        members = (Member(f"{key}.jpg", "jpg", file.getvalue()), Member(f"{key}.txt", "txt", text))
        yield Sample(key, members, row)


@dataclass(frozen=True)
class _Bench:
    """The photographs of one size.

    Attributes:
        folder: holds ``in`` and ``surrogate``, and what is written.
        side: of a picture, pixels.
        samples: as they lie in ``in``.
        surrogate: fitted for them.
        settings: of that fit.
    """

    folder: Path
    side: int
    samples: Sequence[Sample]
    surrogate: Surrogate
    settings: FitConfig

    @property
    def megapixels(self) -> float:
        """Of all pictures."""
        return len(self.samples) * self.side**2 / 1e6

    def run(self, name: str, **options: object) -> LedgerRecord:
        """Protect the photographs; return the record of their shard."""
        values = {
            "surrogate": str(self.folder / "surrogate"),
            "batch_size": self.settings.batch_size,
            "device": self.settings.device,
            "executor": "local",
            **options,
        }
        output = str(self.folder / name)
        protect(ProtectConfig(str(self.folder / "in"), output, **values))  # type: ignore[arg-type]
        (record,) = read_ledger(find_record(output)).values()
        return record

    def codec(self, name: str, fmt: str) -> float:
        """Return the processor seconds that decoding, encoding and decoding alone take."""
        with open_shard(str(self.folder / name / "shard-000.tar")) as reader:
            published = [sample.members[0].data for sample in reader]
        pixels = [decode(data).pixels for data in published]
        sources = [sample.members[0].data for sample in self.samples]

        def once() -> None:
            for data in sources + published:
                decode(data)
            for image in pixels:
                encode(image, fmt)

        return _processor(once)

    def model(self, steps: int | None) -> float:
        """Return the processor seconds that the bare passes of the method take."""
        count = min(len(self.samples), self.settings.batch_size)
        images = [decode(sample.members[0].data).pixels for sample in self.samples[:count]]
        levels = torch.stack([take_apart(p) for p in images])
        captions = [[sample.members[1].data.decode()] for sample in self.samples[:count]]
        protector = BatchProtector(self.surrogate, MethodConfig(steps=steps), self.settings.device)
        # Losses are measured on one batch in 32: they count as none here.
        passes = protector(list(levels), captions, 0, measured=False).passes
        if not passes.image_forward + passes.text_forward:
            return 0.0
        bare = bare_passes(protector, Corpus(levels, captions), passes)
        bare()
        return _processor(bare) * len(self.samples) / count


def bench_photographs(settings: FitConfig, sides: dict[int, int] | None = None) -> Iterator[Figure]:
    """(vii) Whole copies of photographs, by format, by threads, and against codec and model.

    Args:
        settings: of the surrogate.
        sides: how many pictures of each side, pixels.
    """
    for side, count in (_SIDES if sides is None else sides).items():
        with (
            tempfile.TemporaryDirectory(prefix="unlearnable-bench-") as name,
            fixed_threads(1),
        ):
            yield from _figures(_prepare(Path(name), side, count, settings))


def _prepare(folder: Path, side: int, count: int, settings: FitConfig) -> _Bench:
    samples = list(make_photographs(count, side))
    (folder / "in").mkdir()
    write_shard(folder / "in" / "shard-000.tar", iter(samples))
    size = model_spec(settings.model, image_size=settings.image_size).image_size
    small = [fit_square(decode(sample.members[0].data).pixels, size) for sample in samples]
    images = torch.stack([take_apart(p) for p in small])
    captions = [[sample.members[1].data.decode()] for sample in samples]
    surrogate = untrained(Corpus(images, captions), settings)
    save_surrogate(surrogate, str(folder / "surrogate"))
    return _Bench(folder, side, samples, surrogate, settings)


def _figures(bench: _Bench) -> Iterator[Figure]:
    bench.run("first", io_threads=1)
    read = sum(len(member.data) for sample in bench.samples for member in sample.members)
    count = len(bench.samples)
    for fmt in _FORMATS:
        case = f"{bench.side} px, default, {fmt}"
        record = bench.run(f"format-{fmt}", image_format=fmt, io_threads=1)
        yield from _rates(case, record, bench)
        yield Figure("photos", case, "bytes out / in", record.shard_size / read, "ratio")
        stored = "jpeg" if fmt == "same" else fmt
        bare = bench.codec(f"format-{fmt}", stored)
        yield Figure("photos", case, "bare codec", count / bare, "samples/s")
        lost = 1 - bare / record.timings["cpu"]
        yield Figure("photos", case, "lost to all but codec and model", lost, "share")
    for threads in _THREADS:
        case = f"{bench.side} px, default, same, {threads} threads"
        record = bench.run(f"threads-{threads}", image_format="same", io_threads=threads)
        rate = count / record.timings["seconds"]
        yield Figure("photos", case, "rate", rate, "samples/s")
    case = f"{bench.side} px, {_STEPS} steps, same"
    record = bench.run("steps", image_format="same", io_threads=1, steps=_STEPS)
    yield from _rates(case, record, bench)
    own = bench.model(_STEPS) + bench.codec("steps", "jpeg")
    lost = 1 - own / record.timings["cpu"]
    yield Figure("photos", case, "lost to all but codec and model", lost, "share")


def _rates(case: str, record: LedgerRecord, bench: _Bench) -> Iterator[Figure]:
    spent = record.timings["cpu"]
    yield Figure("photos", case, "rate a core", len(bench.samples) / spent, "samples/s")
    yield Figure("photos", case, "pixels a core", bench.megapixels / spent, "megapixels/s")


def _processor(function: Callable[[], object], rounds: int = 2) -> float:
    """Return the least processor seconds of a call."""
    spent = []
    for _ in range(rounds):
        before = time.process_time()
        function()
        spent.append(time.process_time() - before)
    return min(spent)
