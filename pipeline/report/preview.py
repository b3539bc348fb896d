"""`preview`: what protection does to a few samples, before anyone spends hours on a corpus."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch

from ..data import storage
from ..data.captions import read_captions
from ..data.plan import ShardInput, resolve_input
from ..data.shards import Sample, open_shard, write_shard
from ..errors import UsageError
from ..execution.artifact import load_surrogate
from ..execution.config import FitRunConfig
from ..execution.driver.progress import Steps
from ..execution.fit_samples import choose_samples
from ..execution.spec import RunSpec, package_version
from ..execution.worker.in_memory import Protected, protect_samples
from ..execution.worker.scratch import scratch_folder
from ..method.config import FitConfig, MethodConfig
from ..method.fit import fit_surrogate
from ..method.models import model_spec
from ..method.strength import STRENGTHS
from ..method.surrogate import Surrogate
from ..seeds import derive_seed
from .config import PreviewConfig
from .figures import GAIN, Comparison, compare
from .wall import Line, wall_png

# Enough captions to tell a corpus's frequent words, few enough to be read within seconds.
_READ = 256
_A_SHARD = 64
_MAX_SHOWN = 64


@dataclass(frozen=True)
class PreviewSummary:
    """What a preview showed.

    Attributes:
        picture: URL of the contact sheet.
        shown: samples on it.
        left_out: reason by key of the chosen samples that cannot be protected.
        linf: largest change of a pixel, 8-bit levels.
        psnr: median peak signal-to-noise ratio by strength, dB.
        ssim: median structural similarity by strength.
        flip: mean FLIP by strength, `Comparison.flip`; empty without the extra ``flip``.
    """

    picture: str
    shown: int
    left_out: dict[str, str]
    linf: int
    psnr: dict[str, float]
    ssim: dict[str, float]
    flip: dict[str, float]

    def __str__(self) -> str:
        done = (
            f"{self.picture}: {self.shown} samples, no pixel changed by more than {self.linf} of "
            f"255 levels"
        )
        left_out = [f"not shown: {key}: {reason}" for key, reason in self.left_out.items()]
        return "\n".join([done, *map(self._figures, self.psnr), *left_out])

    def _figures(self, strength: str) -> str:
        figures = f"PSNR {self.psnr[strength]:.1f} dB, SSIM {self.ssim[strength]:.3f}"
        if strength in self.flip:
            figures += f", FLIP {self.flip[strength]:.3f}"
        return f"{strength or 'protected'}: {figures}"


def preview(config: PreviewConfig) -> PreviewSummary:
    """Protect ``config.n`` samples and write them beside their originals at 100 and 200 %.

    With a surrogate the sheet shows what `protect` would write. Without one it shows all strengths,
    with patterns of a key that follows from the seed.

    Raises:
        UsageError: the request cannot be carried out as written, or no sample can be protected.
    """
    if not 1 <= config.n <= _MAX_SHOWN:
        raise UsageError(f"n is {config.n}; it must be 1..{_MAX_SHOWN}")
    MethodConfig(epsilon=config.epsilon).validate()
    shards = resolve_input(config.input)
    # Seconds on a small machine.
    with Steps({"read": 5.0, "choose words and patterns": 2.0, "protect": 5.0}) as steps:
        with scratch_folder() as folder:
            part = folder / "part.tar"
            with steps.step("read"):
                write_shard(part, _some(shards, config.seed))
                chosen = _choose(part, config)
            with steps.step("choose words and patterns"):
                surrogates = (
                    [load_surrogate(config.surrogate)]
                    if config.surrogate is not None
                    else [(surrogate, "") for surrogate in _quick_surrogates(part, config)]
                )
        with steps.step("protect"):
            found = {
                surrogate.strength: _protect(chosen, config, surrogate, sha256)
                for surrogate, sha256 in surrogates
            }
            return _show(config, chosen, found)


def _protect(
    chosen: Sequence[Sample], config: PreviewConfig, surrogate: Surrogate, sha256: str
) -> list[Protected]:
    spec = RunSpec(
        mem=MethodConfig(epsilon=config.epsilon),
        batch_size=max(2, len(chosen)),
        trigger_words=surrogate.trigger_words,
        surrogate_sha256=sha256,
        seed=config.seed,
        image_format="png",
        caption_fields=config.caption_fields,
        max_pixels=config.max_pixels,
        torch_threads=1,
        version=package_version(),
        strength=surrogate.strength,
        floor=surrogate.floor,
        losses="none",
    )
    return [pair for batch in protect_samples(chosen, spec, surrogate) for pair in batch]


def _some(shards: Sequence[ShardInput], seed: int) -> Iterator[Sample]:
    """Yield samples from the heads of shards in a seeded order, under keys that cannot clash."""
    each = max(_A_SHARD, math.ceil(_READ / len(shards)))
    left = _READ
    for shard in sorted(shards, key=lambda shard: derive_seed(seed, "shard", shard.name)):
        with open_shard(shard.url) as reader:
            for sample in islice(reader, min(each, left)):
                left -= 1
                members = tuple(
                    replace(member, name=f"{shard.name}/{member.name}") for member in sample.members
                )
                yield replace(sample, key=f"{shard.name}/{sample.key}", members=members)
        if left <= 0:
            return


def _choose(part: Path, config: PreviewConfig) -> list[Sample]:
    """Return ``config.n`` samples, chosen by hash, in the order of the shard."""
    with open_shard(str(part)) as reader:
        ranked = sorted((derive_seed(config.seed, "sample", s.key), s.row) for s in reader)
    rows = {row for _, row in ranked[: config.n]}
    if not rows:
        raise UsageError(f"{config.input} holds no sample")
    with open_shard(str(part)) as reader:
        return [sample for sample in reader if sample.row in rows]


def _quick_surrogates(part: Path, config: PreviewConfig) -> list[Surrogate]:
    """Return a surrogate of each strength, with patterns that follow from the seed."""
    settings = FitConfig(
        trigger_words=config.trigger_words,
        epsilon=config.epsilon,
        # A sheet shows how patterns look; what chooses between them shows nowhere.
        topics=False,
        rounds=1,
        # What shows are the patterns; a trained model shows nowhere.
        steps_per_round=0,
        seed=config.seed,
        key=f"{derive_seed('preview', config.seed):064x}",
    )
    settings.validate()
    side = model_spec(settings.model, image_size=None).image_size
    reading = FitRunConfig(
        str(part),
        output="",
        seed=config.seed,
        caption_fields=config.caption_fields,
        max_pixels=config.max_pixels,
    )
    picks = choose_samples(resolve_input(str(part)), reading, side, None).picks
    if len(picks) < 2:
        raise UsageError(
            f"{config.input}: {len(picks)} of the samples that were read can be used; it takes 2"
        )
    images, captions = torch.stack([p.image for p in picks]), [p.captions for p in picks]
    each = [replace(settings, strength=name) for name in STRENGTHS]
    return [fit_surrogate(images, captions, settings) for settings in each]


def _show(
    config: PreviewConfig, chosen: list[Sample], found: dict[str, list[Protected]]
) -> PreviewSummary:
    """Write the sheet of the samples that can be protected; ``found`` by strength."""
    first = next(iter(found.values()))
    left_out = {row.key: row.reason or "" for row, published in first if published is None}
    if len(left_out) == len(first):
        reasons = ", ".join(sorted(set(left_out.values())))
        raise UsageError(f"{config.input}: none of {len(chosen)} samples can be shown ({reasons})")
    lines, flips = [], defaultdict(list)
    for sample, *copies in zip(chosen, *found.values(), strict=True):
        shown = {
            name: compare(sample, published, row, config.caption_fields)
            for name, (row, published) in zip(found, copies, strict=True)
            if published is not None
        }
        if shown:
            lines.append(_line(sample, list(shown.values()), config))
        for name, comparison in shown.items():
            if comparison.flip is not None:
                flips[name].append(comparison.flip)
    titles = ["original", *(f"{name or 'protected'}, 100 and 200 %" for name in found)]
    if len(found) == 1:
        titles.append(f"difference x {GAIN}")
    storage.write_bytes(config.output, wall_png(titles, lines))
    rows = {
        name: [row for row, _ in pairs if row.psnr is not None] for name, pairs in found.items()
    }
    return PreviewSummary(
        picture=config.output,
        shown=len(lines),
        left_out=left_out,
        linf=max(row.linf or 0 for own in rows.values() for row in own),
        psnr={n: statistics.median(row.psnr or 0.0 for row in own) for n, own in rows.items()},
        ssim={n: statistics.median(row.ssim or 0.0 for row in own) for n, own in rows.items()},
        flip={name: statistics.mean(own) for name, own in flips.items()},
    )


def _line(sample: Sample, shown: Sequence[Comparison], config: PreviewConfig) -> Line:
    pictures = [shown[0].before, *(one.after for one in shown)]
    if len(shown) == 1:
        pictures.append(shown[0].difference())
    return Line(pictures, read_captions(sample, config.caption_fields)[0], shown[0].trigger)
