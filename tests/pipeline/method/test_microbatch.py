"""Out of memory: fewer activations are kept at once, and every published bit stays the same."""

from __future__ import annotations

import dataclasses
import weakref
from types import TracebackType
from typing import Self

import pytest
import torch
from torch import Tensor

from unlearnable.pipeline.method import microbatch as units
from unlearnable.pipeline.method.config import FitConfig, MethodConfig
from unlearnable.pipeline.method.fit import fit_surrogate
from unlearnable.pipeline.method.protected import ProtectedBatch
from unlearnable.pipeline.method.protector import BatchProtector
from unlearnable.pipeline.method.surrogate import Surrogate

UNIT = 8
COUNT = 3 * UNIT + 5
COLOURS = ("red", "blue", "green", "black", "white", "small")
CAPTIONS = [[f"a {COLOURS[i % 6]} {('dog', 'car', 'tree')[i % 3]}"] for i in range(COUNT)]


class _Saved:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class DeviceMemory:
    """A limit on what autograd keeps, as that of a device: beyond it, torch.OutOfMemoryError."""

    def __init__(self, limit: float) -> None:
        self.limit, self.used, self.peak, self.refused = limit, 0, 0, 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda box: box.tensor)

    def _pack(self, tensor: Tensor) -> _Saved:
        size = tensor.numel() * tensor.itemsize
        if self.used + size > self.limit:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate what is not there")
        self.used += size
        self.peak = max(self.peak, self.used)
        # Of an output the tensor itself would hold the graph that holds this.
        box = _Saved(tensor.detach())
        weakref.finalize(box, self._release, size)
        return box

    def _release(self, size: int) -> None:
        self.used -= size

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.__exit__(kind, error, trace)


def pictures(side: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(side)
    return [
        torch.randint(0, 256, (3, side, side), generator=generator).byte() for _ in range(COUNT)
    ]


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT", UNIT)


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    settings = FitConfig(
        image_size=32,
        context_length=12,
        trigger_words=1,
        schedule="paper",
        rounds=1,
        steps_per_round=1,
        pgd_steps=0,
        hotflip_rounds=0,
        batch_size=COUNT,
    )
    return fit_surrogate(torch.stack(pictures(32)), CAPTIONS, settings)


def run(
    surrogate: Surrogate, images: list[Tensor], limit: float
) -> tuple[ProtectedBatch, DeviceMemory, BatchProtector]:
    config = MethodConfig(steps=2)
    protector = BatchProtector(surrogate, config)
    with DeviceMemory(limit) as memory:
        return protector(images, CAPTIONS, 5), memory, protector


def assert_equal(found: ProtectedBatch, plain: ProtectedBatch) -> None:
    for field in dataclasses.fields(ProtectedBatch):
        there, expected = getattr(found, field.name), getattr(plain, field.name)
        if field.name == "delta":
            assert all(torch.equal(a, b) for a, b in zip(there, expected, strict=True))
        elif field.name != "passes":
            assert there == expected, field.name


@pytest.mark.parametrize("sizes", [(40,), (40, 48)], ids=["one size", "two sizes"])
def test_less_memory_gives_the_same_bits(surrogate: Surrogate, sizes: tuple[int, ...]) -> None:
    images = [pictures(sizes[i % len(sizes)])[i] for i in range(COUNT)]
    plain, whole, _ = run(surrogate, images, float("inf"))
    assert any(delta.any() for delta in plain.delta)
    for share, most in ((0.8, 2), (0.6, 1), (0.4, 0)):
        limit = whole.peak * share
        found, memory, protector = run(surrogate, images, limit)
        assert memory.refused > 0
        assert memory.peak <= limit
        assert protector.memory.units is not None
        assert protector.memory.units <= most
        assert found.passes.as_dict() == plain.passes.as_dict()
        assert found.passes.again > plain.passes.again == 0
        assert_equal(found, plain)


def test_what_has_not_fitted_is_not_tried_again(surrogate: Surrogate) -> None:
    images = pictures(40)
    _, whole, _ = run(surrogate, images, float("inf"))
    _, memory, protector = run(surrogate, images, whole.peak * 0.5)
    tried = memory.refused
    with memory:
        protector(images, CAPTIONS, 6)
    assert memory.refused == tried


def test_memory_for_less_than_one_unit_halves_it() -> None:
    rows = torch.randn(COUNT, 100, generator=torch.Generator().manual_seed(0))

    def tower(unit: Tensor, normalize: bool = True) -> Tensor:
        return unit.exp() if normalize else unit

    def gradient(limit: float) -> tuple[Tensor, units.MicroBatch]:
        memory = units.MicroBatch()
        with DeviceMemory(limit):
            found = memory.gradient(units.by_input(tower), rows, lambda seen: seen.sum())
        return found.gradient, memory

    plain, _ = gradient(float("inf"))
    # The activations of 5 samples.
    found, memory = gradient(5 * 100 * 4)
    assert (memory.units, memory.halved) == (0, 1)
    assert torch.allclose(found, plain)


def test_memory_for_no_sample_says_so(surrogate: Surrogate) -> None:
    with pytest.raises(torch.OutOfMemoryError, match="activations of 1 samples do not fit"):
        run(surrogate, pictures(40), 1e5)
