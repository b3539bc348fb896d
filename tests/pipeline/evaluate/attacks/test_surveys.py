"""Attacks that see the whole copy, or pictures of the attacker's own, before they change one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from unlearnable.pipeline.evaluate.attacks import notch, tool
from unlearnable.pipeline.evaluate.attacks.inputs import Inputs
from unlearnable.pipeline.evaluate.attacks.own_copies import protected

from .test_gratings import EPSILON, Copies, copies, drawn_wave, photographs

__all__ = ["copies"]


def given(pictures: list[np.ndarray], value: float = 0) -> Inputs:
    def images() -> Iterator[Image.Image]:
        return map(Image.fromarray, pictures)

    return Inputs(value, 0, "unused", torch.device("cpu"), published=images, own=images)


def test_a_notch_takes_what_stands_out_and_leaves_clean_copies(copies: Copies) -> None:
    wave = EPSILON * drawn_wave(0.7, 5.0, 0.0)[..., None] * np.array([-0.19, -0.17, 1.0])
    marked = [(one + wave).round().clip(0, 255).astype(np.uint8) for one in copies.clean]
    clean = notch.run(given(copies.clean))
    untouched = [np.abs(np.asarray(clean(Image.fromarray(one), 0)) - one.astype(float)).mean()
                 for one in copies.clean]  # fmt: skip
    filtered = notch.run(given(marked))
    left = []
    for one, before in zip(marked, copies.clean, strict=True):
        remaining = np.asarray(filtered(Image.fromarray(one), 0)) - before.astype(float)
        left.append((remaining * wave).sum() / (wave**2).sum())
    assert np.mean(left) < 0.35
    assert np.mean(untouched) < 0.15 * EPSILON


def test_the_public_tool_teaches_a_denoiser() -> None:
    rng = np.random.default_rng(11)
    own, clean = (
        [one[:64, :64] for one in photographs(rng, hues=0.05)[:count]] for count in (24, 6)
    )
    marked = [protected(one, 10**9 + row, EPSILON) for row, one in enumerate(clean)]
    state = torch.get_rng_state()
    denoise = tool.run(given(own, value=40))
    assert torch.equal(torch.get_rng_state(), state)

    def error(pictures: list[np.ndarray]) -> float:
        pairs = zip(pictures, clean, strict=True)
        return float(np.mean([np.abs(one.astype(float) - before).mean() for one, before in pairs]))

    cleaned = [np.asarray(denoise(Image.fromarray(one), 0)) for one in marked]
    assert error(cleaned) < 0.8 * error(marked)
