"""The searches for gratings, on copies of pictures made as version 0.1 made them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from unlearnable.pipeline.evaluate.attacks import fold, jam, known_family
from unlearnable.pipeline.method.patterns import PatternBook
from unlearnable.pipeline.method.strength import STRENGTHS

SIDE, EPSILON, PICTURES = 160, 8, 24
CORNERS = [np.array([r, g, b]) for r in (1, -1) for g in (1, -1) for b in (1, -1)]
REGIONS = (
    (slice(0, SIDE // 2), slice(0, SIDE // 2)),
    (slice(0, SIDE // 2), slice(SIDE // 2, SIDE)),
    (slice(SIDE // 2, SIDE), slice(0, SIDE)),
)


class Copies(NamedTuple):
    clean: list[np.ndarray]
    protected: list[np.ndarray]
    words: list[list[int]]


def patterns() -> np.ndarray:
    """Patterns as version 0.1 laid them, float [64, SIDE, SIDE, 3] of +-1."""
    cell = np.arange(SIDE) // (SIDE / 64)
    down, right = np.meshgrid(cell, cell, indexing="ij")
    waves = [
        np.where((direction + shift) % 4 < 2, 1.0, -1.0)
        for direction in (right, down, right + down, right - down)
        for shift in (0, 1)
    ]
    return np.stack([wave[..., None] * corner for corner in CORNERS for wave in waves])


def photographs(rng: np.random.Generator, hues: float = 0.2) -> list[np.ndarray]:
    """Pictures whose spectrum falls as that of natural ones, with less power in their hues."""
    radius = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]).clip(1 / SIDE)
    found = []
    for _ in range(PICTURES):
        planes = [
            np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) / radius**1.2)
            for _ in range(4)
        ]
        luma, *own = [plane / plane.std() for plane in planes]
        pixels = np.stack([luma + hues * hue for hue in own], axis=-1) * 45 + 128
        found.append(pixels.round().clip(8, 247).astype(np.uint8))
    return found


@pytest.fixture(scope="module")
def copies() -> Copies:
    rng, known = np.random.default_rng(3), patterns()
    clean = photographs(rng)
    words = rng.integers(0, 64, (PICTURES, 3)).tolist()
    protected = []
    for pixels, own in zip(clean, words, strict=True):
        change = np.zeros(pixels.shape)
        for region, word in zip(REGIONS, own, strict=True):
            change[region] = EPSILON * known[word][region]
        protected.append((pixels + change).astype(np.uint8))
    return Copies(clean, protected, words)


def treated(run: object, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(run(Image.fromarray(pixels), EPSILON, 0), dtype=float)  # type: ignore[operator]


def test_who_knows_the_family_names_the_patterns_of_version_0_1(copies: Copies) -> None:
    known, right, left = patterns(), 0, []
    for clean, protected, words in zip(*copies, strict=True):
        cleaned = treated(known_family.run, protected)
        left.append(np.abs(cleaned - clean).mean())
        taken = protected - cleaned
        for region, word in zip(REGIONS, words, strict=True):
            fits = (known[(slice(None), *region)] * taken[region]).sum((1, 2, 3))
            right += int(fits.argmax()) == word
    assert right >= 0.95 * 3 * PICTURES
    assert np.mean(left) < 0.1 * EPSILON


@pytest.mark.parametrize("module", [known_family, fold])
def test_clean_pictures_change_little(module: object, copies: Copies) -> None:
    changed = [np.abs(treated(module.run, one) - one).mean() for one in copies.clean]  # type: ignore[attr-defined]
    assert np.mean(changed) < 0.1 * EPSILON


def drawn_wave(turn: float, period: float, phase: float) -> np.ndarray:
    """A square wave in no direction and at no period of version 0.1, [SIDE, SIDE] of +-1."""
    place = np.arange(SIDE) * 64 / SIDE
    along = np.sin(turn) * place[:, None] + np.cos(turn) * place[None]
    return np.where(np.cos(2 * np.pi * along / period + phase) > 0, 1.0, -1.0)


def remaining(module: object, clean: np.ndarray, change: np.ndarray) -> float:
    """Share of a change that an attack leaves."""
    protected = (clean + change).round().clip(0, 255).astype(np.uint8)
    left = treated(module.run, protected) - clean  # type: ignore[attr-defined]
    return float((left * change).sum() / (change**2).sum())


def test_a_fold_finds_waves_that_a_key_drew(copies: Copies) -> None:
    rng = np.random.default_rng(7)
    left = []
    for clean in copies.clean[:8]:
        change = np.zeros(clean.shape)
        for region in REGIONS:
            wave = drawn_wave(rng.uniform(0, np.pi), rng.uniform(4.5, 7), rng.uniform(0, 6))
            hue = np.array([-0.19, -0.17, 1.0]) if rng.random() < 0.5 else np.array([1, -0.51, 0])
            change[region] = (EPSILON * wave[..., None] * hue)[region]
        left.append(remaining(fold, clean, change))
    assert np.mean(left) < 0.5


@pytest.mark.parametrize("name", STRENGTHS)
def test_patterns_as_shipped_are_found_without_their_key(name: str, copies: Copies) -> None:
    book = PatternBook(bytes(32), STRENGTHS[name], 3, 8)
    bound = torch.full((1, 3, SIDE, SIDE), EPSILON, dtype=torch.int8)
    left = []
    for row, clean in enumerate(copies.clean[:8]):
        laid = book.compose(torch.tensor([[row, 7 - row, row // 2]]), [f"{row}"], ["colour"], bound)
        change = laid[0].permute(1, 2, 0).numpy().astype(float)
        left.append(remaining(known_family, clean, change))
    assert np.mean(left) < 0.4


def test_jamming_lays_other_patterns_over_every_picture(copies: Copies) -> None:
    one, other = (
        np.asarray(jam.run(Image.fromarray(copies.clean[0]), 5, seed), dtype=float)
        for seed in (1, 2)
    )
    assert np.abs(one - copies.clean[0]).max() == 5
    assert np.abs(one - copies.clean[0]).mean() > 1
    assert not np.array_equal(one, other)
    again = jam.run(Image.fromarray(copies.clean[0]), 5, 1)
    assert np.array_equal(np.asarray(again), one)
