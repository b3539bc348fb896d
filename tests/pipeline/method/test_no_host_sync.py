"""On a GPU the host runs ahead of the device: nothing inside a batch may wait for a value of it."""

from __future__ import annotations

from typing import Any, Self

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from unlearnable.pipeline.execution.artifact import load_surrogate
from unlearnable.pipeline.method import visit
from unlearnable.pipeline.method.batch import Batch
from unlearnable.pipeline.method.config import MethodConfig
from unlearnable.pipeline.method.protector import BatchProtector
from unlearnable.pipeline.method.surrogate import Surrogate

_METHODS = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")
_ATEN = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")


class _Operations(TorchDispatchMode):
    """Counts operations whose result, or its shape, the host has to know."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else []
        masks = [
            i for i in indices if isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8)
        ]
        if name in _ATEN or masks:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    """Counts calls that bring values to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _METHODS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class Waits:
    """What waited inside the ``with`` block."""

    def __enter__(self) -> Self:
        self._modes = (_Calls(), _Operations())
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    @property
    def found(self) -> list[str]:
        return self._modes[0].found + self._modes[1].found


@pytest.fixture(scope="module")
def coded(surrogate: str) -> Surrogate:
    return load_surrogate(surrogate)[0]


def images(size: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (3, size, size)
    return [torch.randint(0, 256, shape, generator=generator).byte() for _ in range(6)]


CAPTIONS = [
    [f"a {word} thing", f"one {word}"] for word in ("red", "old", "big", "wet", "low", "new")
]


def test_what_waits_is_seen() -> None:
    values = torch.arange(4.0)
    with Waits() as waits:
        values.sum().item()
        values[values > 1].tolist()
        bool(values.any())
    assert {"item", "tolist", "index"} <= set(waits.found)
    assert len(waits.found) >= 4


@pytest.mark.parametrize("size", [64, 50])
def test_no_step_waits(coded: Surrogate, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images of the model's own size and of others."""
    protector = BatchProtector(coded, MethodConfig(steps=3))
    seen: list[list[str]] = []
    step = visit.descend

    def watched(*arguments: Any, **named: Any) -> None:
        with Waits() as waits:
            step(*arguments, **named)
        seen.append(waits.found)

    monkeypatch.setattr(visit, "descend", watched)
    protector(images(size), CAPTIONS, 0)
    assert seen == [[], [], []]


@pytest.mark.parametrize("size", [64, 50])
def test_a_batch_waits_as_often_whatever_its_steps(
    coded: Surrogate, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which caption is drawn is a matter of the host alone, though it looks like waiting.
    monkeypatch.setattr(Batch, "draw_bodies", Batch.first_bodies)
    counts = []
    for steps in (1, 4):
        protector = BatchProtector(coded, MethodConfig(steps=steps))
        with Waits() as waits:
            protector(images(size), CAPTIONS, 0)
        counts.append(waits.found)
    assert counts[0] == counts[1] != []
