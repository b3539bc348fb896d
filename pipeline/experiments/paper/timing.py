"""How long cells will take on this machine, from a probe of a few steps of each model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from ...data.images import decode, encode
from ...data.shards import Member, Sample, write_shard
from ...evaluate.config import EvaluateConfig
from ...evaluate.towers import FROZEN
from ...evaluate.victim_models import build, spec_of, tokenizer_of
from ...execution.config import ProtectConfig
from ...execution.protect import protect
from ...execution.worker.scratch import scratch_folder
from ...method.config import FitConfig
from ...method.methods import get_method
from ...method.models import to_model_input
from ...method.objective import info_nce
from ...method.patterns import TEXTURES
from .cells import Cell, Copy, Fit, Options, Places, Victim

# A probe takes a batch of this many pixels at most, to be brief on large models too.
_BATCH, _PIXELS = 128, {"cpu": 128 * 64**2, "cuda": 128 * 224**2}
_HOTFLIP_FORWARDS = 1 + 16


@dataclass(frozen=True)
class Speed:
    """Seconds a sample of each operation on one model."""

    step: float
    image_forward: float
    image_step: float
    text_forward: float
    file: float


@dataclass(frozen=True)
class Estimate:
    """Expected seconds of cells on this machine; every model is probed once.

    Args:
        places: sizes of the corpora.
        device: torch device.
    """

    places: Places
    device: str

    def seconds(self, cell: Cell) -> float:
        """Return how long a cell will take from its beginning."""
        images = self.places.facts[cell.source].images
        if isinstance(cell, Fit):
            return self._fit(cell.options, images)
        if isinstance(cell, Copy):
            return self._copy(cell, images)
        return self._victim(cell, images)

    def _speed(self, options: Options) -> Speed:
        return probe(
            options.get("model", "tiny"),
            options.get("image_size"),
            options.get("context_length"),
            self.device,
            options.get("precision") == "bf16",
        )

    def _fit(self, options: Options, images: int) -> float:
        speed = self._speed(options)
        config = FitConfig(**options)
        method = get_method(config.method)
        rounds, trials = config.round_count, 1 if config.published else len(TEXTURES)
        steps = config.round_steps * min(config.batch_size, images) * speed.step
        visit = config.visit_steps * images * (speed.image_step + speed.text_forward)
        words = images * config.positions * speed.text_forward * _HOTFLIP_FORWARDS
        return (
            trials * rounds * (steps + visit)
            + config.search_rounds * words
            + method.climbs * config.round_steps * config.batch_size * speed.image_step
            + images * speed.file / 2
        )

    def _copy(self, cell: Copy, images: int) -> float:
        each = probe_files(self.device)
        if cell.fit is None:
            return images * each
        speed = self._speed(cell.fit.options)
        steps = get_method(str(cell.options.get("method", "mem"))).clean_steps
        passes = 2 + 3 * steps
        return images * (each + passes * (speed.image_forward + speed.text_forward))

    def _victim(self, cell: Victim, images: int) -> float:
        speed, test = self._speed(cell.options), self.places.facts["test"]
        epochs = int(cell.options.get("epochs", EvaluateConfig.epochs))
        tests = epochs // int(cell.options.get("eval_every", 1))
        passes, texts = speed.image_forward, speed.text_forward
        reading = (images + test.images) * speed.file
        if cell.options.get("model") == FROZEN:
            captions = self.places.facts[cell.source].captions + test.captions
            return reading + (images + test.images) * passes + captions * texts
        tested = tests * (test.images * passes + test.captions * texts)
        return reading + len(cell.seeds) * (epochs * images * speed.step + tested)


@cache
def probe(
    model: str, image_size: int | None, context_length: int | None, where: str, bf16: bool
) -> Speed:
    """Time a few batches of random data: a second or two for a small model on a core."""
    device = torch.device(where)
    spec = spec_of(model, image_size, context_length)
    network = build(spec, seed=0).to(device)
    pixels = _PIXELS.get(device.type, _PIXELS["cpu"])
    batch = max(2, min(_BATCH, pixels // spec.image_size**2))
    images = torch.randint(0, 256, (batch, 3, spec.image_size, spec.image_size))
    seen = to_model_input(images.to(torch.uint8), spec).to(device)
    tokens = tokenizer_of(spec)(["a photo of a dog that runs over the grass"] * batch).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)

    def step() -> None:
        with autocast:
            image = network.encode_image(seen, normalize=True)
            text = network.encode_text(tokens, normalize=True)
        optimizer.zero_grad()
        info_nce(image.float(), text.float(), network.logit_scale.exp()).mean().backward()
        optimizer.step()

    def image_step() -> None:
        leaf = seen.clone().requires_grad_()
        torch.autograd.grad(network.encode_image(leaf).float().sum(), leaf)

    @torch.no_grad()
    def image_forward() -> None:
        with autocast:
            network.encode_image(seen)

    @torch.no_grad()
    def text_forward() -> None:
        with autocast:
            network.encode_text(tokens)

    return Speed(
        step=_seconds(step, device) / batch,
        image_forward=_seconds(image_forward, device) / batch,
        image_step=_seconds(image_step, device) / batch,
        text_forward=_seconds(text_forward, device) / batch,
        file=_file_seconds(spec.image_size),
    )


@cache
def probe_files(where: str, samples: int = 64) -> float:
    """Time what `protect` does besides passes, a sample: by a shard of random noise."""
    rng = np.random.default_rng(0)
    with scratch_folder() as folder:
        source = folder / "source"
        source.mkdir()
        write_shard(source / "probe.tar", (_noise_sample(rng, row) for row in range(samples)))
        started = time.perf_counter()
        protect(
            ProtectConfig(
                str(source), str(folder / "copy"), method="random", executor="local", device=where
            )
        )
        return (time.perf_counter() - started) / samples


def _noise_sample(rng: np.random.Generator, row: int) -> Sample:
    pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    members = (
        Member(f"{row:03d}.png", "png", encode(pixels, "png")),
        Member(f"{row:03d}.txt", "txt", b"a photo of noise"),
    )
    return Sample(f"{row:03d}", members, row)


def _seconds(run: Callable[[], None], device: torch.device, times: int = 2) -> float:
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(times):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / times


def _file_seconds(side: int) -> float:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    started = time.perf_counter()
    decode(encode(pixels, "png"))
    return time.perf_counter() - started
